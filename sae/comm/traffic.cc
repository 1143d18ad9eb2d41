#include "sae/comm/traffic.h"

#include <algorithm>

namespace sae::comm {

const char* NameOf(Operation operation) {
  switch (operation) {
    case Operation::kAllReduce:
      return "AllReduce";
    case Operation::kReduceScatter:
      return "ReduceScatter";
    case Operation::kAllGather:
      return "AllGather";
    case Operation::kAllToAll:
      return "AllToAll";
    case Operation::kBroadcast:
      return "Broadcast";
    case Operation::kBarrier:
      return "Barrier";
    case Operation::kSplit:
      return "Split";
  }
  return "unknown";
}

Traffic::Snapshot Traffic::Snapshot::Since(const Snapshot& earlier) const {
  Snapshot difference = *this;
  for (std::size_t p = 0; p < counts.size(); ++p) {
    for (std::size_t o = 0; o < counts[p].size(); ++o) {
      difference.counts[p][o].bytes -= earlier.counts[p][o].bytes;
      difference.counts[p][o].calls -= earlier.counts[p][o].calls;
    }
  }
  return difference;
}

Traffic::Traffic() { (void)Purpose("other"); }

int Traffic::Find(absl::string_view label) const {
  const absl::string_view key = label.substr(0, kMaxLabel);
  for (int p = 0; p < used_; ++p) {
    if (key == absl::string_view(labels_[static_cast<std::size_t>(p)].data())) return p;
  }
  return -1;
}

int Traffic::Purpose(absl::string_view label) {
  MutexLock lock(mu_);
  if (const int found = Find(label); found >= 0) return found;
  if (used_ == kMaxPurposes) return 0;
  const absl::string_view key = label.substr(0, kMaxLabel);
  std::copy(key.begin(), key.end(), labels_[static_cast<std::size_t>(used_)].begin());
  return used_++;
}

void Traffic::Add(Operation operation, int purpose, std::int64_t bytes) {
  Cell& cell = cells_[static_cast<std::size_t>(purpose)][static_cast<std::size_t>(operation)];
  cell.bytes.fetch_add(bytes, std::memory_order_relaxed);
  cell.calls.fetch_add(1, std::memory_order_relaxed);
}

void Traffic::Add(const Snapshot& more) {
  for (std::size_t p = 0; p < cells_.size(); ++p) {
    for (std::size_t o = 0; o < cells_[p].size(); ++o) {
      cells_[p][o].bytes.fetch_add(more.counts[p][o].bytes, std::memory_order_relaxed);
      cells_[p][o].calls.fetch_add(more.counts[p][o].calls, std::memory_order_relaxed);
    }
  }
}

Traffic::Count Traffic::Sum(int purpose_begin, int purpose_end, int operation_begin,
                            int operation_end) const {
  Count sum;
  for (int p = purpose_begin; p < purpose_end; ++p) {
    for (int o = operation_begin; o < operation_end; ++o) {
      const Cell& cell = cells_[static_cast<std::size_t>(p)][static_cast<std::size_t>(o)];
      sum.bytes += cell.bytes.load(std::memory_order_relaxed);
      sum.calls += cell.calls.load(std::memory_order_relaxed);
    }
  }
  return sum;
}

Traffic::Count Traffic::Total() const { return Sum(0, kMaxPurposes, 0, kOperations); }

Traffic::Count Traffic::Of(Operation operation) const {
  const int o = static_cast<int>(operation);
  return Sum(0, kMaxPurposes, o, o + 1);
}

Traffic::Count Traffic::Of(absl::string_view label) const {
  MutexLock lock(mu_);
  const int p = Find(label);
  return p < 0 ? Count{} : Sum(p, p + 1, 0, kOperations);
}

Traffic::Snapshot Traffic::Now() const {
  Snapshot now;
  for (int p = 0; p < kMaxPurposes; ++p) {
    for (int o = 0; o < kOperations; ++o) {
      now.counts[static_cast<std::size_t>(p)][static_cast<std::size_t>(o)] =
          Sum(p, p + 1, o, o + 1);
    }
  }
  return now;
}

std::vector<Traffic::Entry> Traffic::Purposes() const {
  MutexLock lock(mu_);
  std::vector<Entry> entries;
  for (int p = 0; p < used_; ++p) {
    const Count count = Sum(p, p + 1, 0, kOperations);
    if (count.calls > 0) entries.push_back({labels_[static_cast<std::size_t>(p)].data(), count});
  }
  return entries;
}

}  // namespace sae::comm
