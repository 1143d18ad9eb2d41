#pragma once
// The exponent of the penalty sum f^p, lowered from 1 to p_end in ten equal updates from 20% of the
// run on, and the factor that keeps the penalty continuous where the exponent changes: the ratio of
// its means over the last ten batches. A value with state; not thread-safe. Source: spec
// algorithms.md 3b.3, numerics.md 6.

#include <array>
#include <cstdint>

#include "sae/model/state.h"

namespace sae::optim {

class PAnneal {
 public:
  PAnneal(std::int64_t total_steps, double p_end) : total_(total_steps), p_end_(p_end) {}

  double p() const { return At(updates_); }
  /// After the next update.
  double next_p() const { return At(updates_ + 1); }
  /// What the coefficient is multiplied by.
  double factor() const { return factor_; }
  /// Mean of sum f^p over the tokens of one step, with p() and with next_p().
  void Observe(double now, double next);
  void AddState(model::State* state);

 private:
  static constexpr std::int64_t kUpdates = 10;
  static constexpr std::int64_t kQueue = 10;
  double At(std::int64_t updates) const;

  std::int64_t total_;
  double p_end_;
  std::int64_t step_ = 0;
  std::int64_t updates_ = 0;
  double factor_ = 1;
  std::array<double, 2 * kQueue> queue_{};  // (now, next) of the last steps, by step modulo kQueue
};

}  // namespace sae::optim
