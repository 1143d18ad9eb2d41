#pragma once
// Asynchronous successive halving, in one or several brackets. AshaStop judges a trial when it
// reaches a rung: it goes on when it is among the best max(floor(n / eta), 1) of the n there,
// itself included, else it stops. AshaPromote pauses every trial at its rung; of a rung of n, the
// best floor(n / eta) may go on, highest rungs first. (Li et al., 2020, "A System for Massively
// Parallel Hyperparameter Tuning"; the stopping form is that of Determined.) At the last rung a
// trial is done: stop. Each (trial, rung) counts once. A final failure counts as the worst of the
// rung that the trial was on its way to; an invalid configuration takes the trial out of all rungs.

#include <memory>
#include <string>
#include <vector>

#include "server/search/rungs.h"
#include "server/search/searcher.h"

namespace sae::server::search {

struct AshaShape {
  std::vector<double> tokens;  ///< of the rungs, rising; not empty
  double eta = 4;
  int brackets = 1;  ///< 1 to as many as rungs; bracket b leaves out the first b rungs
};

class Asha : public Searcher {
 public:
  explicit Asha(AshaShape shape);
  double NextLook(int trial) override;
  std::vector<Decision> Tell(const Input& input) override;
  std::string DebugString() const override;

 protected:
  struct Place {
    int bracket = 0;
    std::vector<double> losses;  ///< by rung of its bracket, as inserted; the next rung is its size
    bool waiting = false;        ///< paused at the last of these
    bool over = false;           ///< stopped or ended
    bool failed = false;         ///< the last loss stands for a failure
  };
  /// The bracket's first rung has the number 1 + bracket.
  std::vector<Rung>& rungs(const Place& place) {
    return brackets_[static_cast<std::size_t>(place.bracket)];
  }
  /// `place` has just been entered in its rung `index`.
  virtual Action Judge(Place& place, std::size_t index, const Entry& entry) = 0;

  double eta_;
  std::vector<std::vector<Rung>> brackets_;

 private:
  Place& At(int trial);
  std::vector<Decision> Report(Place& place, const Input& input);
  void Remove(Place& place, int trial, std::size_t index);
  void StopWaiting(Place& place, int trial);
  void Fail(Place& place, int trial);

  BracketDealer dealer_;
  std::vector<Place> places_;
};

class AshaStop final : public Asha {
 public:
  using Asha::Asha;

 private:
  Action Judge(Place& place, std::size_t index, const Entry& entry) override;
};

class AshaPromote final : public Asha {
 public:
  using Asha::Asha;
  std::optional<Decision> NextPromotion(const std::function<bool(int)>& ready) override;

 private:
  Action Judge(Place& place, std::size_t index, const Entry& entry) override;
};

}  // namespace sae::server::search
