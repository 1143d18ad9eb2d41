#include "sae/optim/p_anneal.h"

#include <algorithm>

namespace sae::optim {
namespace {
constexpr double kStart = 0.2;
}

double PAnneal::At(std::int64_t updates) const {
  const double share = static_cast<double>(std::min(updates, kUpdates)) / kUpdates;
  return 1 + (p_end_ - 1) * share;
}

void PAnneal::Observe(double now, double next) {
  const auto slot = static_cast<std::size_t>(2 * (step_ % kQueue));
  queue_[slot] = now;
  queue_[slot + 1] = next;
  ++step_;
  const double total = static_cast<double>(total_);
  const double due = kStart * total + static_cast<double>(updates_) * (1 - kStart) * total / kUpdates;
  if (updates_ == kUpdates || static_cast<double>(step_) < due) return;
  double sums[2] = {0, 0};
  for (std::size_t i = 0; i < queue_.size(); ++i) sums[i % 2] += queue_[i];
  if (sums[0] > 0 && sums[1] > 0) factor_ *= sums[0] / sums[1];
  ++updates_;
  queue_.fill(0);  // they were taken with the exponents before
}

void PAnneal::AddState(model::State* state) {
  state->tensors.push_back(
      {"p_anneal_queue", DType::kF64, {2 * kQueue}, queue_.data(), false});
  state->scalars.push_back({"p_anneal_step", &step_});
  state->scalars.push_back({"p_anneal_updates", &updates_});
  state->scalars.push_back({"p_anneal_factor", &factor_});
}

}  // namespace sae::optim
