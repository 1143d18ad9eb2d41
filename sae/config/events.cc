#include "sae/config/events.h"

#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace sae::config {
namespace {
using nlohmann::json;

constexpr std::array<const char*, 9> kNames = {"started", "metrics", "evaluation", "checkpoint", "warning",
                                               "yielded", "stopped", "finished",   "failed"};

json Number(double v) { return std::isfinite(v) ? json(v) : json(nullptr); }

}  // namespace

std::string ToString(EventKind kind) { return kNames[static_cast<std::size_t>(kind)]; }

std::string ToJsonLine(const Event& event) {
  json j = {{"seq", event.seq}, {"time", event.time}, {"kind", ToString(event.kind)},
            {"step", event.step}, {"tokens", event.tokens}};
  if (event.kind == EventKind::kStarted) j["from_step"] = event.from_step;
  for (const auto& [name, value] : event.values) j["values"][name] = Number(value);
  if (!event.message.empty()) j["message"] = event.message;
  if (!event.checkpoint.empty()) j["checkpoint"] = event.checkpoint;
  if (!event.failed.empty()) j["failed"] = event.failed;
  return j.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

absl::StatusOr<Event> ParseEvent(const std::string& line) {
  const json j = json::parse(line, nullptr, false);
  const auto bad = [&](const char* why) {
    return absl::InvalidArgumentError(absl::StrCat("not an event: ", why, ": ", line.substr(0, 200)));
  };
  if (!j.is_object()) return bad("no JSON object");
  Event event;
  try {
    event.seq = j.at("seq").get<std::int64_t>();
    event.time = j.at("time").get<double>();
    event.step = j.at("step").get<std::int64_t>();
    event.tokens = j.at("tokens").get<std::int64_t>();
    event.from_step = j.value("from_step", std::int64_t{0});
    event.message = j.value("message", "");
    event.checkpoint = j.value("checkpoint", "");
    event.failed = j.value("failed", "");
    const std::string kind = j.at("kind").get<std::string>();
    std::size_t i = 0;
    while (i < kNames.size() && kind != kNames[i]) ++i;
    if (i == kNames.size()) return bad("unknown kind");
    event.kind = static_cast<EventKind>(i);
    if (j.contains("values")) {
      for (const auto& [name, value] : j.at("values").items()) {
        event.values[name] = value.is_null() ? std::numeric_limits<double>::quiet_NaN() : value.get<double>();
      }
    }
  } catch (const json::exception& e) {
    return bad(e.what());
  }
  if (event.seq < 1) return bad("seq below 1");
  return event;
}

}  // namespace sae::config
