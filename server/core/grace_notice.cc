#include "server/core/grace_notice.h"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <map>
#include <utility>

#include "absl/strings/str_format.h"

namespace sae::server {
namespace {

constexpr double kMargin = 1.5;

}  // namespace

std::string ShortGrace(const config::SweepSpec& spec, double save_seconds) {
  if (spec.grace_seconds <= 0 || save_seconds * kMargin <= spec.grace_seconds) return "";
  return absl::StrFormat(
      "gracePeriod %.6gs is short: a checkpoint took %.3g s, and a trial that is told to save and "
      "end is killed after gracePeriod; submit with gracePeriod: %.0fs or more",
      spec.grace_seconds, save_seconds, std::ceil(save_seconds * kMargin));
}

void AddGraceNotices(const State& state, std::vector<LogEvent>& events) {
  std::map<std::string, double> slowest;  // of sweeps, with what these events say
  std::vector<std::pair<std::ptrdiff_t, LogEvent>> notices;  // and where they go
  for (const LogEvent& event : events) {
    const auto* saved = std::get_if<CheckpointSaved>(&event.body);
    const SweepRecord* sweep = saved == nullptr ? nullptr : state.sweep(event.sweep);
    if (sweep == nullptr) continue;
    double& before = slowest.try_emplace(sweep->name, sweep->slowest_save_seconds).first->second;
    const std::string text = ShortGrace(sweep->spec, saved->seconds);
    if (!text.empty() && ShortGrace(sweep->spec, before).empty()) {
      notices.emplace_back(
          &event - events.data() + 1,
          LogEvent{event.sweep, 0, event.time, "", Notice{0, absl::StrCat("warning: ", text), {}}});
    }
    before = std::max(before, saved->seconds);
  }
  for (auto notice = notices.rbegin(); notice != notices.rend(); ++notice)
    events.insert(events.begin() + notice->first, std::move(notice->second));
}

}  // namespace sae::server
