#include "client/cli/trial_view.h"

#include <cmath>
#include <limits>
#include <map>
#include <set>

#include "client/cli/json_view.h"
#include "client/cli/table.h"

namespace sae::cli {
namespace {

std::string ValueText(const google::protobuf::Value& v) {
  switch (v.kind_case()) {
    case google::protobuf::Value::kNumberValue: {
      const double x = v.number_value();
      if (x == std::nearbyint(x) && std::abs(x) < 1e15)
        return std::to_string(static_cast<std::int64_t>(x));
      char text[32];
      std::snprintf(text, sizeof text, "%.6g", x);
      return text;
    }
    case google::protobuf::Value::kStringValue:
      return v.string_value();
    case google::protobuf::Value::kBoolValue:
      return v.bool_value() ? "true" : "false";
    default:
      return "?";
  }
}

}  // namespace

std::string SeriesText(const saeloom::v1::Trial& trial) {
  const saeloom::v1::SaeSpec& sae = trial.config().sae();
  const std::string& penalty = sae.penalty();
  const bool plain = penalty.empty() || penalty == "auto" || penalty == "none" || penalty == "l1" ||
                     penalty == "l0";
  std::string out = sae.architecture();
  if (!plain) out += "/" + penalty;
  if (sae.multi_topk()) out += "/multi";
  if (sae.transcoder()) out += sae.skip() ? "/skip" : "/transcoder";
  return out;
}

std::string ParameterText(const saeloom::v1::Trial& trial) {
  // What the series says is not said twice.
  static const std::set<std::string> in_series = {"sae.architecture", "sae.penalty",
                                                  "sae.multi_topk", "sae.transcoder", "sae.skip"};
  std::string out = SeriesText(trial);
  const std::map<std::string, google::protobuf::Value> sorted(trial.parameters().begin(),
                                                              trial.parameters().end());
  for (const auto& [path, value] : sorted) {
    if (in_series.contains(path)) continue;
    out += (out.empty() ? "" : " ") + path.substr(path.rfind('.') + 1) + "=" + ValueText(value);
  }
  return out;
}

std::string StateText(saeloom::v1::Trial::State state) {
  const auto* value = saeloom::v1::Trial::State_descriptor()->FindValueByNumber(state);
  return value == nullptr ? "UNKNOWN" : EnumName(value);
}

std::string StateText(saeloom::v1::Sweep::State state) {
  const auto* value = saeloom::v1::Sweep::State_descriptor()->FindValueByNumber(state);
  return value == nullptr ? "UNKNOWN" : EnumName(value);
}

bool Ended(saeloom::v1::Trial::State state) {
  using Trial = saeloom::v1::Trial;
  return state == Trial::STATE_SUCCEEDED || state == Trial::STATE_STOPPED_EARLY ||
         state == Trial::STATE_FAILED || state == Trial::STATE_CANCELLED;
}

double MetricOf(const saeloom::v1::Trial& trial, const std::string& metric) {
  const auto it = trial.metrics().find(metric);
  return it == trial.metrics().end() ? std::numeric_limits<double>::quiet_NaN() : it->second;
}

std::string CountsText(const saeloom::v1::Sweep& sweep) {
  std::int64_t total = 0, done = 0, failed = 0, running = 0;
  for (const auto& [state, count] : sweep.trials()) {
    total += count;
    if (state == "SUCCEEDED" || state == "STOPPED_EARLY") done += count;
    if (state == "FAILED") failed += count;
    if (state == "RUNNING" || state == "CHECKPOINTING" || state == "STARTING") running += count;
  }
  std::string out = std::to_string(done) + "/" + std::to_string(total) + " done";
  if (running > 0) out += ", " + std::to_string(running) + " running";
  if (failed > 0) out += ", " + std::to_string(failed) + " failed";
  return out;
}

}  // namespace sae::cli
