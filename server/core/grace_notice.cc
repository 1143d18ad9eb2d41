#include "server/core/grace_notice.h"

#include <algorithm>
#include <cmath>
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
  std::vector<LogEvent> out;
  for (std::size_t i = 0; i < events.size(); ++i) {
    const auto* saved = std::get_if<CheckpointSaved>(&events[i].body);
    const SweepRecord* sweep = saved == nullptr ? nullptr : state.sweep(events[i].sweep);
    std::string text;
    if (sweep != nullptr) {
      double& before = slowest.try_emplace(sweep->name, sweep->slowest_save_seconds).first->second;
      if (ShortGrace(sweep->spec, before).empty()) text = ShortGrace(sweep->spec, saved->seconds);
      before = std::max(before, saved->seconds);
    }
    if (out.empty() && text.empty()) continue;
    if (out.empty())
      out.assign(std::make_move_iterator(events.begin()),
                 std::make_move_iterator(events.begin() + static_cast<std::ptrdiff_t>(i) + 1));
    else
      out.push_back(std::move(events[i]));
    if (text.empty()) continue;
    out.push_back(
        {out.back().sweep, 0, out.back().time, "", Notice{0, absl::StrCat("warning: ", text), {}}});
  }
  if (!out.empty()) events = std::move(out);
}

}  // namespace sae::server
