#include "server/core/events.h"

#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

namespace sae::server {
namespace {
using nlohmann::json;

constexpr std::array<const char*, 28> kKinds = {"sweep_created",
                                                "sweep_changed",
                                                "cancel_requested",
                                                "trial_retried",
                                                "trial_cancelled",
                                                "attempt_allocated",
                                                "attempt_starting",
                                                "attempt_running",
                                                "rewound",
                                                "checkpoint_saved",
                                                "attempt_verdict",
                                                "attempt_ended",
                                                "notice",
                                                "point",
                                                "sweep_updated",
                                                "stop_requested",
                                                "trial_resumed",
                                                "trial_paused",
                                                "points_added",
                                                "search_report",
                                                "search_decided",
                                                "attempt_prepared",
                                                "checkpoint_marked",
                                                "checkpoints_deleted",
                                                "sweep_deleted",
                                                "queue_updated",
                                                "worker_cordoned",
                                                "worker_uncordoned"};
static_assert(kKinds.size() == std::variant_size_v<Body>);

constexpr std::array<const char*, 3> kCharges = {"none", "trial", "worker"};

/// JSON has no NaN and no infinities; as strings they survive.
json Number(double v) {
  if (std::isnan(v)) return "nan";
  if (std::isinf(v)) return v > 0 ? "inf" : "-inf";
  return v;
}
double ToDouble(const json& j) {
  if (j.is_number()) return j.get<double>();
  const std::string word = j.get<std::string>();
  if (word == "inf") return std::numeric_limits<double>::infinity();
  if (word == "-inf") return -std::numeric_limits<double>::infinity();
  return std::numeric_limits<double>::quiet_NaN();
}

json Write(const SweepCreated& e) {
  json j = {{"spec", json::parse(e.spec, nullptr, false)}, {"points", e.points}};
  if (!e.owner.empty()) j["owner"] = e.owner;
  if (!e.forked_from.empty()) j["forked_from"] = e.forked_from;
  if (!e.fork_runs_id.empty()) j["fork_runs_id"] = e.fork_runs_id;
  return j;
}
json Write(const SweepChanged& e) { return {{"state", ToString(e.state)}}; }
json Write(const CancelRequested& e) {
  return e.graceful ? json{{"graceful", true}} : json::object();
}
json Write(const TrialRetried&) { return json::object(); }
json Write(const TrialCancelled&) { return json::object(); }
json Write(const AttemptAllocated& e) {
  json j = {{"attempt", e.attempt},
            {"worker", e.worker},
            {"runs_id", e.runs_id},
            {"runs_directory", e.runs_directory},
            {"slots", e.slots}};
  if (!e.gang.empty()) j["gang"] = e.gang;
  for (const HostShare& h : e.hosts)
    j["hosts"].push_back({{"worker", h.worker}, {"slots", h.slots}});
  if (!e.token.empty()) j["token"] = e.token;
  return j;
}
json Write(const AttemptStarting& e) { return {{"attempt", e.attempt}}; }
json Write(const AttemptRunning& e) { return {{"attempt", e.attempt}, {"from_step", e.from_step}}; }
json Write(const Rewound& e) { return {{"attempt", e.attempt}, {"step", e.step}}; }
json Write(const CheckpointSaved& e) {
  json j = {{"attempt", e.attempt}, {"name", e.name}, {"step", e.step}, {"tokens", e.tokens}};
  if (e.seconds > 0) j["seconds"] = e.seconds;
  if (e.bytes > 0) j["bytes"] = e.bytes;
  return j;
}
json Write(const AttemptVerdict& e) {
  return {{"attempt", e.attempt}, {"verdict", e.verdict}, {"message", e.message}, {"step", e.step}};
}
json Write(const AttemptEnded& e) {
  json j = {{"attempt", e.attempt},
            {"outcome", e.outcome},
            {"reason", e.reason},
            {"failure_class", ToString(e.failure_class)},
            {"charge", kCharges[static_cast<std::size_t>(e.charge)]},
            {"next", ToString(e.next)},
            {"delay_seconds", absl::ToDoubleSeconds(e.delay)},
            {"log_tail", e.log_tail}};
  if (!e.suspects.empty()) j["suspects"] = e.suspects;
  return j;
}
json Write(const Notice& e) {
  json j = {{"attempt", e.attempt}, {"text", e.text}, {"lines", e.lines}};
  if (!e.failed.empty()) j["failed"] = e.failed;
  return j;
}
json Write(const Point& e) {
  json values = json::object();
  for (const auto& [name, value] : e.values) values[name] = Number(value);
  return {{"attempt", e.attempt},
          {"step", e.step},
          {"tokens", e.tokens},
          {"evaluation", e.evaluation},
          {"values", std::move(values)}};
}
json Write(const SweepUpdated& e) {
  json j = json::object();
  if (e.priority) j["priority"] = *e.priority;
  if (e.max_concurrent) j["max_concurrent"] = *e.max_concurrent;
  if (e.queue) j["queue"] = *e.queue;
  if (e.labels) j["labels"] = *e.labels;
  return j;
}
json Write(const StopRequested& e) {
  return {{"attempt", e.attempt}, {"wanted", ToString(e.wanted)}, {"reason", e.reason}};
}
json Write(const TrialResumed& e) { return {{"reason", e.reason}}; }
json Write(const TrialPaused& e) { return {{"reason", e.reason}}; }
json Write(const PointsAdded& e) { return {{"points", e.points}}; }
json Write(const SearchReport& e) {
  return {{"attempt", e.attempt},
          {"step", e.step},
          {"tokens", e.tokens},
          {"value", Number(e.value)},
          {"feasible", e.feasible}};
}
json Write(const SearchDecided& e) {
  return {{"rung", e.rung}, {"value", Number(e.value)}, {"decision", e.decision}};
}
json Write(const AttemptPrepared& e) { return {{"attempt", e.attempt}}; }
json Write(const CheckpointMarked& e) {
  json j = {{"name", e.name}};
  if (e.is_protected) j["protected"] = *e.is_protected;
  if (e.kept) j["kept"] = *e.kept;
  if (e.secured) j["secured"] = *e.secured;
  if (e.deleting) j["deleting"] = *e.deleting;
  if (e.value)
    j["value"] = {{"value", Number(e.value->value)},
                  {"feasible", e.value->feasible},
                  {"step", e.value->step}};
  return j;
}
json Write(const CheckpointsDeleted& e) {
  return {{"names", e.names}, {"bytes", e.bytes}, {"reason", e.reason}};
}
json Write(const SweepDeleted&) { return json::object(); }
json Write(const QueueUpdated& e) {
  return {{"name", e.name}, {"quota_slots", e.quota_slots}, {"weight", e.weight}};
}
json Write(const WorkerCordoned& e) {
  return {
      {"worker", e.worker}, {"reason", e.reason}, {"drain", e.drain}, {"by_person", e.by_person}};
}
json Write(const WorkerUncordoned& e) { return {{"worker", e.worker}}; }

void Read(const json& j, SweepCreated& e) {
  e.spec = j.at("spec").dump();
  j.at("points").get_to(e.points);
  e.owner = j.value("owner", "");
  e.forked_from = j.value("forked_from", "");
  e.fork_runs_id = j.value("fork_runs_id", "");
}
void Read(const json& j, SweepChanged& e) { e.state = ParseSweepState(j.at("state")).value(); }
void Read(const json& j, CancelRequested& e) { e.graceful = j.value("graceful", false); }
void Read(const json&, TrialRetried&) {}
void Read(const json&, TrialCancelled&) {}
void Read(const json& j, AttemptAllocated& e) {
  e.attempt = j.at("attempt");
  e.worker = j.at("worker");
  e.runs_id = j.at("runs_id");
  e.runs_directory = j.at("runs_directory");
  e.slots = j.at("slots");
  e.gang = j.value("gang", "");
  if (j.contains("hosts")) {
    for (const json& h : j.at("hosts")) e.hosts.push_back({h.at("worker"), h.at("slots")});
  }
  e.token = j.value("token", "");
}
void Read(const json& j, AttemptStarting& e) { e.attempt = j.at("attempt"); }
void Read(const json& j, AttemptRunning& e) {
  e.attempt = j.at("attempt");
  e.from_step = j.at("from_step");
}
void Read(const json& j, Rewound& e) {
  e.attempt = j.at("attempt");
  e.step = j.at("step");
}
void Read(const json& j, CheckpointSaved& e) {
  e.attempt = j.at("attempt");
  e.name = j.at("name");
  e.step = j.at("step");
  e.tokens = j.at("tokens");
  e.seconds = j.value("seconds", 0.0);
  e.bytes = j.value("bytes", std::int64_t{0});
}
void Read(const json& j, AttemptVerdict& e) {
  e.attempt = j.at("attempt");
  e.verdict = j.at("verdict");
  e.message = j.at("message");
  e.step = j.at("step");
}
void Read(const json& j, AttemptEnded& e) {
  e.attempt = j.at("attempt");
  e.outcome = j.at("outcome");
  e.reason = j.at("reason");
  e.failure_class = ParseFailureClass(j.at("failure_class")).value();
  const std::string charge = j.at("charge");
  for (std::size_t i = 0; i < kCharges.size(); ++i) {
    if (charge == kCharges[i]) e.charge = static_cast<Charge>(i);
  }
  e.next = ParseTrialState(j.at("next")).value();
  e.delay = absl::Seconds(j.at("delay_seconds").get<double>());
  j.at("log_tail").get_to(e.log_tail);
  if (j.contains("suspects")) j.at("suspects").get_to(e.suspects);
}
void Read(const json& j, Notice& e) {
  e.attempt = j.at("attempt");
  e.text = j.at("text");
  j.at("lines").get_to(e.lines);
  e.failed = j.value("failed", "");
}
void Read(const json& j, Point& e) {
  e.attempt = j.at("attempt");
  e.step = j.at("step");
  e.tokens = j.at("tokens");
  e.evaluation = j.at("evaluation");
  for (const auto& [name, value] : j.at("values").items()) e.values[name] = ToDouble(value);
}
template <typename T>
void ReadOptional(const json& j, const char* key, std::optional<T>& out) {
  if (j.contains(key)) out = j.at(key).get<T>();
}
void Read(const json& j, SweepUpdated& e) {
  ReadOptional(j, "priority", e.priority);
  ReadOptional(j, "max_concurrent", e.max_concurrent);
  ReadOptional(j, "queue", e.queue);
  ReadOptional(j, "labels", e.labels);
}
void Read(const json& j, StopRequested& e) {
  e.attempt = j.at("attempt");
  e.wanted = ParseStopWanted(j.at("wanted")).value();
  e.reason = j.at("reason");
}
void Read(const json& j, TrialResumed& e) { e.reason = j.at("reason"); }
void Read(const json& j, TrialPaused& e) { e.reason = j.at("reason"); }
void Read(const json& j, PointsAdded& e) { j.at("points").get_to(e.points); }
void Read(const json& j, SearchReport& e) {
  e.attempt = j.at("attempt");
  e.step = j.at("step");
  e.tokens = j.at("tokens");
  e.value = ToDouble(j.at("value"));
  e.feasible = j.at("feasible");
}
void Read(const json& j, SearchDecided& e) {
  e.rung = j.at("rung");
  e.value = ToDouble(j.at("value"));
  e.decision = j.at("decision");
}
void Read(const json& j, AttemptPrepared& e) { e.attempt = j.at("attempt"); }
void Read(const json& j, CheckpointMarked& e) {
  e.name = j.at("name");
  ReadOptional(j, "protected", e.is_protected);
  ReadOptional(j, "kept", e.kept);
  ReadOptional(j, "secured", e.secured);
  ReadOptional(j, "deleting", e.deleting);
  if (!j.contains("value")) return;
  const json& value = j.at("value");
  e.value = CheckpointValue{ToDouble(value.at("value")), value.at("feasible"), value.at("step")};
}
void Read(const json& j, CheckpointsDeleted& e) {
  j.at("names").get_to(e.names);
  e.bytes = j.value("bytes", std::int64_t{0});
  e.reason = j.value("reason", "");
}
void Read(const json&, SweepDeleted&) {}
void Read(const json& j, QueueUpdated& e) {
  e.name = j.at("name");
  e.quota_slots = j.at("quota_slots");
  e.weight = j.at("weight");
}
void Read(const json& j, WorkerCordoned& e) {
  e.worker = j.at("worker");
  e.reason = j.at("reason");
  e.drain = j.at("drain");
  e.by_person = j.at("by_person");
}
void Read(const json& j, WorkerUncordoned& e) { e.worker = j.at("worker"); }

template <std::size_t I = 0>
Body ReadKind(std::size_t kind, const json& j) {
  if constexpr (I < std::variant_size_v<Body>) {
    if (kind != I) return ReadKind<I + 1>(kind, j);
    std::variant_alternative_t<I, Body> value;
    Read(j, value);
    return value;
  } else {
    return Body{};
  }
}

}  // namespace

std::string KindOf(const Body& body) { return kKinds[body.index()]; }

std::string BodyToJson(const Body& body) {
  const json j = std::visit([](const auto& e) { return Write(e); }, body);
  return j.dump(-1, ' ', false, json::error_handler_t::replace);
}

absl::StatusOr<Body> ParseBody(const std::string& kind, const std::string& text) {
  std::size_t i = 0;
  while (i < kKinds.size() && kind != kKinds[i]) ++i;
  if (i == kKinds.size())
    return absl::DataLossError(absl::StrCat("event log: unknown kind \"", kind, "\""));
  const json j = json::parse(text, nullptr, false);
  if (!j.is_object())
    return absl::DataLossError(absl::StrCat("event log: ", kind, " is no JSON object"));
  try {
    return ReadKind(i, j);
  } catch (const std::exception& e) {  // json's own, and absl::BadStatusOrAccess of an unknown word
    return absl::DataLossError(absl::StrCat("event log: ", kind, ": ", e.what()));
  }
}

}  // namespace sae::server
