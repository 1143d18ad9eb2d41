// Why a gang does not fit: what people read, and what a metric counts.
#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

#include "server/core/placement.h"

namespace sae::server {
namespace {

std::string Gibibytes(std::int64_t bytes) {
  return absl::StrFormat("%.1f GiB", static_cast<double>(bytes) / (std::int64_t{1} << 30));
}

std::string Home(const Need& need) {
  return need.runs_directory.empty()
             ? ""
             : absl::StrCat(" where its checkpoint is, in runs folder ", need.runs_directory);
}

/// The cordoned ones of `workers`, at most five by name.
std::string Cordons(const std::vector<SchedulableWorker>& workers, const Need& need) {
  std::string text;
  int named = 0, more = 0;
  for (const SchedulableWorker& w : workers) {
    if (w.cordon.empty() || (!need.runs_id.empty() && w.runs_id != need.runs_id)) continue;
    if (need.topology == Topology::kSameNode && w.slots < need.slots) continue;
    if (++named > 5) {
      ++more;
      continue;
    }
    absl::StrAppend(&text, text.empty() ? "" : ", ", w.id, " (", w.cordon, ")");
  }
  if (more > 0) absl::StrAppend(&text, " and ", more, " more");
  return text;
}

}  // namespace

std::string SlotsText(std::int64_t n) { return absl::StrCat(n, n == 1 ? " slot" : " slots"); }

bool NothingCanRun(WaitReason reason) {
  return reason == WaitReason::kNoWorker || reason == WaitReason::kTooLarge ||
         reason == WaitReason::kCheckpoint || reason == WaitReason::kCheckpointSlots ||
         reason == WaitReason::kCordoned;
}

Wait Places::WhyTooLarge(const Need& need, int largest) const {
  if (!need.runs_id.empty()) {
    return {WaitReason::kCheckpointSlots,
            absl::StrCat("needs ", SlotsText(need.slots), "; its checkpoint is in runs folder ",
                         need.runs_directory, ", whose largest worker has ", largest)};
  }
  int together = 0;
  for (const auto& group : Groups(need, false)) {
    int slots = 0;
    for (const std::size_t i : group) slots += workers_[i].slots;
    together = std::max(together, slots);
  }
  std::string text =
      absl::StrCat("needs ", SlotsText(need.slots), "; the largest worker has ", largest);
  if (need.topology != Topology::kSameNode && together > largest) {
    absl::StrAppend(&text, ", and workers that can share a gang",
                    need.topology == Topology::kSameRack ? " in one rack" : "", " have ", together,
                    " together");
  }
  return {WaitReason::kTooLarge, std::move(text)};
}

Wait Places::WhyBusy(const Need& need) const {
  int largest = 0, room = 0, total = 0;
  std::int64_t most_memory = 0;
  const bool one = OneIsEnough(need);
  for (const auto& candidate : Candidates(need)) {
    int free = 0, usable = 0, slots = 0;
    for (const std::size_t i : candidate) {
      const SchedulableWorker& w = workers_[i];
      free += w.free;
      slots += w.slots;
      usable += FreeFor(w, need);
      if (w.free >= need.slots) most_memory = std::max(most_memory, w.memory - w.memory_used);
    }
    if (free > largest) total = slots;
    largest = std::max(largest, free);
    room = std::max(room, usable);
  }
  if (largest >= need.slots && room < need.slots) {
    return {WaitReason::kMemory,
            absl::StrCat("needs ", Gibibytes(need.memory),
                         one ? " of memory on one worker" : " of memory",
                         "; the most that is free beside ", SlotsText(need.slots), " is ",
                         Gibibytes(most_memory), Home(need))};
  }
  if (!one) {
    return {WaitReason::kSlotsBusy,
            absl::StrCat("needs ", SlotsText(need.slots), " over several workers; ", largest,
                         " of the ", total, " that can share a gang are free", Home(need))};
  }
  if (need.slots == 1) return {WaitReason::kSlotsBusy, "waiting for a free slot" + Home(need)};
  return {WaitReason::kSlotsBusy,
          absl::StrCat("needs ", SlotsText(need.slots), " on one worker; the largest free is ",
                       largest, Home(need))};
}

Wait Places::WhyNot(const Need& need) const {
  if (workers_.empty()) return {WaitReason::kNoWorker, "no worker is registered"};
  int home = 0, largest = 0, largest_cordoned = 0;
  for (const SchedulableWorker& w : workers_) {
    if (!MayHold(w, need)) continue;
    ++home;
    int& most = w.cordon.empty() ? largest : largest_cordoned;
    most = std::max(most, w.slots);
  }
  if (home == 0) {
    return {WaitReason::kCheckpoint, absl::StrCat("its checkpoint is in runs folder ",
                                                  need.runs_directory, ", no worker shares it")};
  }
  const auto enough = [&](bool cordoned) {
    if (std::max(largest, cordoned ? largest_cordoned : 0) >= need.slots) return true;
    if (need.topology == Topology::kSameNode) return false;
    for (const auto& group : Groups(need, cordoned)) {
      int slots = 0;
      for (const std::size_t i : group) slots += workers_[i].slots;
      if (slots >= need.slots) return true;
    }
    return false;
  };
  if (enough(false)) return WhyBusy(need);
  if (enough(true)) {
    return {WaitReason::kCordoned,
            absl::StrCat(need.slots == 1 ? "all workers are cordoned: "
                                         : "all workers with enough slots are cordoned: ",
                         Cordons(workers_, need))};
  }
  return WhyTooLarge(need, std::max(largest, largest_cordoned));
}

}  // namespace sae::server
