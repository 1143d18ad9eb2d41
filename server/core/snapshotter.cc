#include "server/core/snapshotter.h"

#include <spdlog/spdlog.h>
#include <utility>

namespace sae::server {
namespace {

constexpr std::size_t kSliceParts = 4;
constexpr std::size_t kSliceBytes = std::size_t{1} << 20;

absl::Status TryRestore(EventStore& store, const SnapshotHead& head, State& state,
                        StateSnapshot::Index& index, WorkerHealth* health) {
  SAE_RETURN_IF_ERROR(StateSnapshot::DecodeState(head.body, state, index, health));
  for (const auto& [sweep, parts] : index) {
    for (int part = 0; part < StateSnapshot::PartsOf(parts.trials); ++part) {
      SAE_ASSIGN_OR_RETURN(const std::string bytes, store.ReadSnapshotPart(sweep, parts.cut, part));
      SAE_RETURN_IF_ERROR(StateSnapshot::DecodePart(bytes, sweep, parts, part, state));
    }
  }
  for (const std::string& sweep : state.sweep_order()) {
    if (state.sweep(sweep) == nullptr)
      return absl::DataLossError(absl::StrCat("snapshot: without sweep ", sweep));
  }
  return absl::OkStatus();
}

}  // namespace

std::int64_t Snapshotter::Restore(EventStore& store, State& state, StateSnapshot::Index& index,
                                  WorkerHealth* health) {
  const auto head = store.NewestSnapshot();
  if (head.ok() && !head->has_value()) return 0;
  absl::Status status = head.status();
  if (status.ok() && (*head)->layout != StateSnapshot::Layout()) {
    spdlog::info("the snapshot is of another version's layout: reading the whole event log");
    return 0;
  }
  if (status.ok()) status = TryRestore(store, **head, state, index, health);
  if (status.ok()) return (*head)->cut;
  spdlog::warn("{}; reading the whole event log", Message(status));
  state = State();
  index.clear();
  if (health != nullptr) *health = WorkerHealth();
  return 0;
}

void Snapshotter::Forget() {
  GiveUp();
  changed_.clear();
  written_.clear();
  index_.clear();
}

void Snapshotter::Before(const LogEvent& event) {
  if (event.telemetry()) return;
  ++events_;
  changed_.insert(event.sweep);
  const auto it = missing_.find(event.sweep);
  if (it == missing_.end() || std::holds_alternative<Notice>(event.body)) return;
  const int index = TrialIndexOf(event.trial);
  const SweepRecord* sweep = state_.sweep(event.sweep);
  if (sweep == nullptr) return GiveUp();
  if (index < 0) return EncodeRest(event.sweep);  // it may change any of them
  for (const int part : {0, StateSnapshot::PartOf(index)}) {
    const auto left = missing_.find(event.sweep);
    if (left != missing_.end() && left->second.contains(part)) Encode(*sweep, part);
  }
}

void Snapshotter::Encode(const SweepRecord& sweep, int part) {
  encoded_.push_back({sweep.name, part, cut_, StateSnapshot::EncodePart(sweep, part)});
  const auto it = missing_.find(sweep.name);
  it->second.erase(part);
  if (it->second.empty()) missing_.erase(it);
}

void Snapshotter::EncodeRest(const std::string& name) {
  const SweepRecord& sweep = *state_.sweep(name);
  while (missing_.contains(name)) Encode(sweep, *missing_.at(name).begin());
}

void Snapshotter::GiveUp() {
  cut_ = 0;
  events_ = 0;  // not at once again
  missing_.clear();
  encoded_.clear();
  for (const auto& [sweep, parts] : index_) {
    const auto old = written_.find(sweep);
    if (old == written_.end() || old->second.cut != parts.cut) changed_.insert(sweep);
  }
}

absl::Status Snapshotter::Start() {
  events_ = 0;
  SAE_ASSIGN_OR_RETURN(cut_, store_.LastEventId());
  if (cut_ == 0) return absl::OkStatus();
  index_.clear();
  for (const std::string& name : state_.sweep_order()) {
    const SweepRecord& sweep = *state_.sweep(name);
    const auto old = written_.find(name);
    if (old != written_.end() && !changed_.contains(name)) {
      index_[name] = old->second;
      continue;
    }
    const auto trials = static_cast<std::int64_t>(sweep.trials.size());
    index_[name] = {cut_, trials};
    std::set<int>& parts = missing_[name];
    for (int part = 0; part < StateSnapshot::PartsOf(trials); ++part) parts.insert(part);
  }
  body_ = StateSnapshot::EncodeState(state_, index_, health_);
  changed_.clear();
  return absl::OkStatus();
}

absl::Status Snapshotter::Slice() {
  for (std::size_t n = 0; n < kSliceParts && !missing_.empty(); ++n) {
    const auto it = missing_.begin();
    Encode(*state_.sweep(it->first), *it->second.begin());
  }
  std::vector<SnapshotPart> parts;
  std::size_t bytes = 0;
  while (!encoded_.empty() && bytes < kSliceBytes) {
    bytes += encoded_.back().body.size();
    parts.push_back(std::move(encoded_.back()));
    encoded_.pop_back();
  }
  SAE_RETURN_IF_ERROR(store_.WriteSnapshotParts(parts));
  if (!missing_.empty() || !encoded_.empty()) return absl::OkStatus();
  std::map<std::string, std::int64_t> cuts;
  for (const auto& [sweep, where] : index_) cuts[sweep] = where.cut;
  SAE_RETURN_IF_ERROR(store_.CompleteSnapshot({cut_, StateSnapshot::Layout(), body_}, cuts));
  written_ = std::move(index_);
  index_.clear();
  cut_ = 0;
  return absl::OkStatus();
}

void Snapshotter::Step() {
  absl::Status status = under_way() ? absl::OkStatus() : Start();
  if (status.ok() && under_way()) status = Slice();
  if (status.ok()) return;
  spdlog::warn("no snapshot: {}", Message(status));
  GiveUp();
}

absl::Status Snapshotter::Finish() {
  if (every_ <= 0) return absl::OkStatus();
  while (under_way()) {
    SAE_RETURN_IF_ERROR(Slice());
  }
  if (changed_.empty()) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(Start());
  while (under_way()) {
    SAE_RETURN_IF_ERROR(Slice());
  }
  return absl::OkStatus();
}

}  // namespace sae::server
