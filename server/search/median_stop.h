#pragma once
// The median rule around another searcher: a trial stops when its best loss so far is worse than
// the median of the mean losses so far of others that have come as far (Golovin et al., 2017,
// "Google Vizier", 3.2.1). Nothing before `grace` tokens counts, neither for the best nor for the
// means: the steep start of a curve would hide all that follows. Losses that are not finite are in
// no mean; a trial that has no others has the worst. A trial is looked at once in each interval of
// tokens, and "as far" means the same interval, so that a look costs no more than a search in a
// set.

#include <memory>
#include <string>
#include <vector>

#include "server/search/rungs.h"
#include "server/search/searcher.h"

namespace sae::server::search {

struct MedianShape {
  double grace = 0;
  std::int64_t min_trials = 5;  ///< others that must have come as far
  double interval = 1;          ///< tokens between two looks at a trial; above 0
};

class MedianStop final : public Searcher {
 public:
  MedianStop(MedianShape shape, std::unique_ptr<Searcher> inner);
  double NextLook(int trial) override;
  std::vector<Decision> Tell(const Input& input) override;
  std::optional<Decision> NextPromotion(const std::function<bool(int)>& ready) override {
    return inner_->NextPromotion(ready);
  }
  std::string DebugString() const override;

 private:
  struct Curve {
    std::size_t first = 0;      ///< interval of the first look
    std::vector<double> means;  ///< from there on, one an interval
    double sum = 0;
    std::int64_t finite = 0;
    double best = kWorst;
    bool over = false;
  };
  Curve& At(int trial);
  double NextOwn(const Curve& curve) const;
  std::size_t IntervalOf(double tokens) const;
  /// Enters a look; says whether the trial is worse than the median there.
  bool Look(Curve& curve, int trial, double tokens, double loss);
  bool IsWorse(double best, std::size_t interval) const;

  const MedianShape shape_;
  std::unique_ptr<Searcher> inner_;
  std::vector<Curve> curves_;
  std::vector<RankedSet> means_;  ///< by interval, of all trials that have come there
};

}  // namespace sae::server::search
