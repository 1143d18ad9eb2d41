#pragma once
// Trials that may start now, grouped so that a scheduling cycle looks at one of each kind and not
// at all of them: trials of a sweep with the same needs stand in one batch, in order of their
// index; those that can share a gang stand in one stream as well. Trials that wait for their
// back-off are not in it. Plain data; not thread-safe.

#include <compare>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <unordered_map>
#include <vector>

namespace sae::server {

struct SchedulableTrial {
  std::string sweep;
  int index = 0;
  int slots = 1;
  std::string runs_id;             ///< of its checkpoint; "" = fresh, anywhere
  std::string runs_directory;      ///< of its checkpoint, for people
  std::vector<std::string> avoid;  ///< workers where it failed: taken only when no other fits
  std::string prefer;              ///< worker of its checkpoint: its page cache is warm
  std::string stream;       ///< trials of a sweep that can share a gang have the same; "" = none
  std::int64_t pack = 1;    ///< most trials of its gang; 0 = auto
  std::int64_t memory = 0;  ///< bytes of all its ranks; 0 = unknown
  std::int64_t order = 0;   ///< smaller goes first in its sweep, then the smaller index
};

/// What decides where a trial can start.
struct Shape {
  std::int64_t order = 0;
  int slots = 1;
  std::int64_t memory = 0;  ///< as PlannedMemory says
  std::string runs_id;
  auto operator<=>(const Shape&) const = default;
};

/// Rounded up by at most an eighth, so that trials that differ little are alike.
std::int64_t PlannedMemory(std::int64_t bytes);

class PendingQueue {
 public:
  struct Batch {
    std::set<int> trials;
    std::string runs_directory;
  };
  struct Hints {
    std::vector<std::string> avoid;
    std::string prefer;
  };
  struct Entry {
    std::map<Shape, Batch>::iterator batch;
    std::set<int>* stream = nullptr;  ///< of those that may join it; null = it runs alone
    std::int64_t pack = 1;
    std::unique_ptr<Hints> hints;  ///< null = none
  };
  struct Sweep {
    std::map<Shape, Batch> batches;
    std::map<std::string, std::set<int>> streams;
    std::unordered_map<int, Entry> entries;
  };

  /// Adds it, or replaces what was said of it.
  void Add(const SchedulableTrial& trial);
  void Remove(const std::string& sweep, int index);
  void Clear() { sweeps_.clear(); }

  const std::map<std::string, Sweep>& sweeps() const { return sweeps_; }
  /// Null when it is not here.
  const Shape* ShapeOf(const std::string& sweep, int index) const;

 private:
  std::map<std::string, Sweep> sweeps_;
};

}  // namespace sae::server
