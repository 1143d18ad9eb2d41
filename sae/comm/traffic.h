#pragma once
// What one rank has put into collectives: payload bytes and calls, by operation and by purpose. A
// communicator and all parts split off it count into one Traffic. A purpose is a short label such
// as "select.first" that the caller sets on its communicator before it calls; what has none counts
// as "other". Thread-safe; nothing here allocates, but for Purposes(). Counters only grow: take
// differences.

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/strings/string_view.h"

#include "sae/base/mutex.h"

namespace sae::comm {

enum class Operation {
  kAllReduce,
  kReduceScatter,
  kAllGather,
  kAllToAll,
  kBroadcast,
  kBarrier,
  kSplit
};
inline constexpr int kOperations = 7;
const char* NameOf(Operation operation);

class Traffic {
 public:
  static constexpr int kMaxPurposes = 24;  ///< "other" is one of them
  static constexpr int kMaxLabel = 23;     ///< characters of a label that count

  struct Count {
    std::int64_t bytes = 0;
    std::int64_t calls = 0;
    bool operator==(const Count&) const = default;
  };
  /// All counters at one moment, for a captured graph: what its capture added is added again at
  /// each replay.
  struct Snapshot {
    std::array<std::array<Count, kOperations>, kMaxPurposes> counts{};
    Snapshot Since(const Snapshot& earlier) const;
  };
  struct Entry {
    std::string label;
    Count count;
  };

  Traffic();
  /// The label's number, from 0 on ("other"); labels that find no room are "other".
  int Purpose(absl::string_view label);
  void Add(Operation operation, int purpose, std::int64_t bytes);
  void Add(const Snapshot& more);

  Count Total() const;
  Count Of(Operation operation) const;
  /// Zero for a label that was never set.
  Count Of(absl::string_view label) const;
  Snapshot Now() const;
  /// Purposes that have calls, in the order in which they were first set.
  std::vector<Entry> Purposes() const;

 private:
  struct Cell {
    std::atomic<std::int64_t> bytes{0};
    std::atomic<std::int64_t> calls{0};
  };
  Count Sum(int purpose_begin, int purpose_end, int operation_begin, int operation_end) const;
  int Find(absl::string_view label) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  std::array<std::array<Cell, kOperations>, kMaxPurposes> cells_;
  mutable Mutex mu_;
  std::array<std::array<char, kMaxLabel + 1>, kMaxPurposes> labels_ ABSL_GUARDED_BY(mu_){};
  int used_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace sae::comm
