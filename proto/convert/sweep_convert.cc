#include "proto/convert/sweep_convert.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "absl/strings/str_split.h"
#include "absl/time/time.h"

#include "sae/base/check.h"

namespace sae {
namespace {
using google::protobuf::FieldDescriptor;
using ProtoMessage = google::protobuf::Message;
using nlohmann::json;

template <class T>
struct IsOptional : std::false_type {};
template <class T>
struct IsOptional<std::optional<T>> : std::true_type {};

/// The last message on the way to `path` ("sae.k") and the field's descriptor. The two sides have
/// the same names (sweep_convert_test compares them), so a miss is a bug.
const FieldDescriptor* Descend(const std::string& path, const ProtoMessage** message) {
  std::vector<std::string> parts = absl::StrSplit(path, '.');
  for (std::size_t i = 0;; ++i) {
    const FieldDescriptor* field = (*message)->GetDescriptor()->FindFieldByName(parts[i]);
    SAE_CHECK_MSG(field != nullptr, "TrialSpec has no field %s", path.c_str());
    if (i + 1 == parts.size()) return field;
    *message = &(*message)->GetReflection()->GetMessage(**message, field);
  }
}

const FieldDescriptor* Descend(const std::string& path, ProtoMessage** message) {
  std::vector<std::string> parts = absl::StrSplit(path, '.');
  for (std::size_t i = 0;; ++i) {
    const FieldDescriptor* field = (*message)->GetDescriptor()->FindFieldByName(parts[i]);
    SAE_CHECK_MSG(field != nullptr, "TrialSpec has no field %s", path.c_str());
    if (i + 1 == parts.size()) return field;
    *message = (*message)->GetReflection()->MutableMessage(*message, field);
  }
}

void Read(const ProtoMessage& m, const FieldDescriptor* f, bool* out) {
  *out = m.GetReflection()->GetBool(m, f);
}
void Read(const ProtoMessage& m, const FieldDescriptor* f, double* out) {
  *out = m.GetReflection()->GetDouble(m, f);
}
void Read(const ProtoMessage& m, const FieldDescriptor* f, std::int64_t* out) {
  *out = m.GetReflection()->GetInt64(m, f);
}
void Read(const ProtoMessage& m, const FieldDescriptor* f, std::string* out) {
  // proto3 cannot tell "" from absent: both mean the config's default.
  if (std::string value = m.GetReflection()->GetString(m, f); !value.empty())
    *out = std::move(value);
}

void Write(ProtoMessage* m, const FieldDescriptor* f, bool v) {
  m->GetReflection()->SetBool(m, f, v);
}
void Write(ProtoMessage* m, const FieldDescriptor* f, double v) {
  m->GetReflection()->SetDouble(m, f, v);
}
void Write(ProtoMessage* m, const FieldDescriptor* f, std::int64_t v) {
  m->GetReflection()->SetInt64(m, f, v);
}
void Write(ProtoMessage* m, const FieldDescriptor* f, const std::string& v) {
  m->GetReflection()->SetString(m, f, v);
}

/// JSON scalar of a Value; whole numbers without a point, as YAML writes them.
absl::StatusOr<std::string> ScalarText(const google::protobuf::Value& value,
                                       const std::string& where) {
  switch (value.kind_case()) {
    case google::protobuf::Value::kNumberValue: {
      const double x = value.number_value();
      if (!std::isfinite(x))
        return absl::InvalidArgumentError(where + ": a value that is not finite");
      if (x == std::nearbyint(x) && std::abs(x) < 9007199254740992.0)
        return json(static_cast<std::int64_t>(x)).dump();
      return json(x).dump();
    }
    case google::protobuf::Value::kStringValue:
      return json(value.string_value()).dump(-1, ' ', false, json::error_handler_t::replace);
    case google::protobuf::Value::kBoolValue:
      return std::string(value.bool_value() ? "true" : "false");
    default:
      return absl::InvalidArgumentError(where + ": needs a number, a string or true/false");
  }
}

google::protobuf::Value ScalarValue(const std::string& text) {
  google::protobuf::Value out;
  const json j = json::parse(text, nullptr, false);
  if (j.is_boolean()) {
    out.set_bool_value(j.get<bool>());
  } else if (j.is_number_integer() && std::abs(j.get<double>()) > 9007199254740992.0) {
    out.set_string_value(text);  // a double would lose digits; SetField takes digits in a string
  } else if (j.is_number()) {
    out.set_number_value(j.get<double>());
  } else {
    out.set_string_value(j.is_string() ? j.get<std::string>() : text);
  }
  return out;
}

/// As far as a sweep's text says it ("120s"), so that the API and the text name one sweep.
double AsWritten(double seconds) {
  if (!std::isfinite(seconds)) return seconds;  // refused later
  return absl::ToDoubleSeconds(absl::Seconds(seconds));
}

absl::StatusOr<config::Parameter> ParameterFromProto(const saeloom::v1::Parameter& proto,
                                                     const std::string& where) {
  using Kind = config::Parameter::Kind;
  config::Parameter out;
  out.path = proto.path();
  const auto range = [&](Kind kind, const saeloom::v1::Parameter::Range& r) {
    out.kind = kind;
    out.min = r.min();
    out.max = r.max();
    out.step = r.step();
  };
  switch (proto.form_case()) {
    case saeloom::v1::Parameter::kValues:
      for (int i = 0; i < proto.values().values_size(); ++i) {
        SAE_ASSIGN_OR_RETURN(std::string text, ScalarText(proto.values().values(i),
                                                          absl::StrCat(where, ".values[", i, "]")));
        out.values.push_back(std::move(text));
      }
      break;
    case saeloom::v1::Parameter::kUniform:
      range(Kind::kUniform, proto.uniform());
      break;
    case saeloom::v1::Parameter::kLogUniform:
      range(Kind::kLogUniform, proto.log_uniform());
      break;
    case saeloom::v1::Parameter::kIntUniform:
      range(Kind::kIntUniform, proto.int_uniform());
      break;
    case saeloom::v1::Parameter::FORM_NOT_SET:
      return absl::InvalidArgumentError(absl::StrCat(
          where, " (", proto.path(), "): needs one of values, uniform, log_uniform, int_uniform"));
  }
  for (int i = 0; i < proto.when_size(); ++i) {
    config::Condition& condition = out.when.emplace_back();
    condition.path = proto.when(i).path();
    for (int j = 0; j < proto.when(i).values_size(); ++j) {
      SAE_ASSIGN_OR_RETURN(std::string text,
                           ScalarText(proto.when(i).values(j),
                                      absl::StrCat(where, ".when[", i, "].values[", j, "]")));
      condition.values.push_back(std::move(text));
    }
  }
  return out;
}

saeloom::v1::Parameter ParameterToProto(const config::Parameter& parameter) {
  using Kind = config::Parameter::Kind;
  saeloom::v1::Parameter out;
  const auto& [path, kind, values, min, max, step, when] = parameter;
  out.set_path(path);
  for (const config::Condition& condition : when) {
    saeloom::v1::Parameter::Condition* to = out.add_when();
    to->set_path(condition.path);
    for (const std::string& v : condition.values) *to->add_values() = ScalarValue(v);
  }
  if (kind == Kind::kValues) {
    out.mutable_values();
    for (const std::string& v : values) *out.mutable_values()->add_values() = ScalarValue(v);
    return out;
  }
  saeloom::v1::Parameter::Range* range = kind == Kind::kUniform      ? out.mutable_uniform()
                                         : kind == Kind::kLogUniform ? out.mutable_log_uniform()
                                                                     : out.mutable_int_uniform();
  range->set_min(min);
  range->set_max(max);
  range->set_step(step);
  return out;
}

absl::Status ReadObjective(const saeloom::v1::Objective& proto, config::SweepSpec& spec) {
  if (!proto.metric().empty()) spec.objective_metric = proto.metric();
  spec.minimize = proto.goal() != saeloom::v1::Objective::GOAL_MAXIMIZE;
  for (int i = 0; i < proto.constraints_size(); ++i) {
    auto constraint = config::ParseConstraint(proto.constraints(i));
    if (!constraint.ok())
      return Annotate(constraint.status(), absl::StrCat("objective.constraints[", i, "]"));
    spec.constraints.push_back(*std::move(constraint));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<config::TrialConfig> FromProto(const saeloom::v1::TrialSpec& proto) {
  config::TrialConfig config;
  for (const config::Field& field : config::Fields(config)) {
    const ProtoMessage* at = &proto;
    const FieldDescriptor* descriptor = Descend(field.path, &at);
    if (descriptor->has_presence() && !at->GetReflection()->HasField(*at, descriptor)) continue;
    std::visit(
        [&](auto* target) {
          using T = std::remove_pointer_t<decltype(target)>;
          if constexpr (IsOptional<T>::value) {
            target->emplace();
            Read(*at, descriptor, &**target);
          } else {
            Read(*at, descriptor, target);
          }
        },
        field.pointer);
  }
  return config;
}

saeloom::v1::TrialSpec ToProto(const config::TrialConfig& config) {
  saeloom::v1::TrialSpec proto;
  config::TrialConfig copy = config;
  for (const config::Field& field : config::Fields(copy)) {
    ProtoMessage* at = &proto;
    const FieldDescriptor* descriptor = Descend(field.path, &at);
    std::visit(
        [&](auto* source) {
          using T = std::remove_pointer_t<decltype(source)>;
          if constexpr (IsOptional<T>::value) {
            if (source->has_value()) Write(at, descriptor, **source);
          } else {
            Write(at, descriptor, *source);
          }
        },
        field.pointer);
  }
  return proto;
}

namespace {

void ReadAsha(const char* search, const saeloom::v1::Search::Asha& proto, config::SweepSpec& spec) {
  spec.search = search;
  spec.max_trials = proto.max_trials();
  spec.search_seed = proto.seed();
  spec.asha.mode = proto.mode() == saeloom::v1::Search::Asha::MODE_PROMOTE ? "promote" : "stop";
  spec.asha.max_time = proto.max_time();
  spec.asha.min_time = proto.min_time();
  spec.asha.eta = proto.eta();
  spec.asha.max_rungs = proto.max_rungs();
  spec.asha.brackets = proto.brackets();
}

void WriteAsha(const config::SweepSpec& spec, saeloom::v1::Search::Asha& proto) {
  proto.set_max_trials(spec.max_trials);
  proto.set_seed(spec.search_seed);
  proto.set_mode(spec.asha.mode == "promote" ? saeloom::v1::Search::Asha::MODE_PROMOTE
                                             : saeloom::v1::Search::Asha::MODE_STOP);
  proto.set_max_time(spec.asha.max_time);
  proto.set_min_time(spec.asha.min_time);
  proto.set_eta(spec.asha.eta);
  proto.set_max_rungs(spec.asha.max_rungs);
  proto.set_brackets(spec.asha.brackets);
}

saeloom::v1::SweepSpec::Topology TopologyToProto(const std::string& topology) {
  if (topology == "same-node") return saeloom::v1::SweepSpec::TOPOLOGY_SAME_NODE;
  if (topology == "same-rack") return saeloom::v1::SweepSpec::TOPOLOGY_SAME_RACK;
  return saeloom::v1::SweepSpec::TOPOLOGY_ANY;
}

/// Where, when and how often trials run, and what stays of them.
void ReadScheduling(const saeloom::v1::SweepSpec& proto, config::SweepSpec& spec) {
  spec.labels = {proto.labels().begin(), proto.labels().end()};
  spec.queue = proto.queue();
  spec.priority = proto.priority();
  if (proto.topology() == saeloom::v1::SweepSpec::TOPOLOGY_SAME_NODE) spec.topology = "same-node";
  if (proto.topology() == saeloom::v1::SweepSpec::TOPOLOGY_SAME_RACK) spec.topology = "same-rack";
  for (const saeloom::v1::RetryRule& rule : proto.retry()) {
    config::RetryRule& out = spec.retry.emplace_back();
    for (int i = 0; i < rule.on_size(); ++i)
      out.on.push_back(saeloom::v1::FailureClass_Name(rule.on(i)));
    out.limit = rule.limit();
    out.exclude_node = rule.exclude_node();
  }
  if (proto.has_checkpoints()) {
    spec.checkpoints.keep_latest = proto.checkpoints().keep_latest() == 0
                                       ? config::CheckpointPolicy().keep_latest
                                       : proto.checkpoints().keep_latest();
    spec.checkpoints.keep_best = proto.checkpoints().keep_best();
    spec.checkpoints.keep_sweep_best = proto.checkpoints().keep_sweep_best();
  }
  if (proto.has_grace_seconds()) spec.grace_seconds = AsWritten(proto.grace_seconds());
  if (proto.has_progress_timeout_seconds())
    spec.progress_timeout_seconds = AsWritten(proto.progress_timeout_seconds());
}

}  // namespace

absl::StatusOr<config::SweepSpec> FromProto(const saeloom::v1::SweepSpec& proto) {
  config::SweepSpec spec;
  spec.name = proto.name();
  spec.store = proto.store();
  spec.store_hash = proto.store_hash();
  spec.store_d = proto.store_d();
  spec.store_target_d = proto.store_target_d();
  SAE_ASSIGN_OR_RETURN(spec.trial, FromProto(proto.trial()));
  for (int i = 0; i < proto.parameters_size(); ++i) {
    config::ParameterSet set;
    for (int j = 0; j < proto.parameters(i).parameters_size(); ++j) {
      SAE_ASSIGN_OR_RETURN(
          config::Parameter p,
          ParameterFromProto(proto.parameters(i).parameters(j),
                             absl::StrCat("parameters[", i, "].parameters[", j, "]")));
      set.push_back(std::move(p));
    }
    spec.parameters.push_back(std::move(set));
  }
  SAE_RETURN_IF_ERROR(ReadObjective(proto.objective(), spec));
  if (proto.search().has_random()) {
    spec.search = "random";
    spec.max_trials = proto.search().random().max_trials();
    spec.search_seed = proto.search().random().seed();
  }
  if (proto.search().has_asha()) ReadAsha("asha", proto.search().asha(), spec);
  if (proto.search().has_hyperband()) ReadAsha("hyperband", proto.search().hyperband(), spec);
  if (proto.search().has_median_stop()) {
    spec.median_stop.enabled = true;
    spec.median_stop.grace_tokens = proto.search().median_stop().grace_tokens();
    if (proto.search().median_stop().min_trials() != 0)
      spec.median_stop.min_trials = proto.search().median_stop().min_trials();
  }
  spec.max_concurrent = proto.max_concurrent();
  spec.pack = proto.pack();
  ReadScheduling(proto, spec);
  return spec;
}

saeloom::v1::SweepSpec ToProto(const config::SweepSpec& spec) {
  // The binding lists every field: one more in the struct stops the build here.
  const auto& [name, store, store_hash, store_d, store_target_d, trial, parameters, metric,
               minimize, constraints, search, max_trials, search_seed, max_concurrent, pack, labels,
               queue, priority, topology, asha, median_stop, retry, checkpoints, grace_seconds,
               progress_timeout_seconds] = spec;
  saeloom::v1::SweepSpec proto;
  proto.set_name(name);
  proto.set_store(store);
  proto.set_store_hash(store_hash);
  proto.set_store_d(store_d);
  proto.set_store_target_d(store_target_d);
  *proto.mutable_trial() = ToProto(trial);
  for (const config::ParameterSet& set : parameters) {
    saeloom::v1::ParameterSet* out = proto.add_parameters();
    for (const config::Parameter& p : set) *out->add_parameters() = ParameterToProto(p);
  }
  saeloom::v1::Objective* objective = proto.mutable_objective();
  objective->set_metric(metric);
  objective->set_goal(minimize ? saeloom::v1::Objective::GOAL_MINIMIZE
                               : saeloom::v1::Objective::GOAL_MAXIMIZE);
  for (const config::Constraint& c : constraints) objective->add_constraints(config::ToText(c));
  if (search == "random") {
    proto.mutable_search()->mutable_random()->set_max_trials(max_trials);
    proto.mutable_search()->mutable_random()->set_seed(search_seed);
  } else if (search == "asha") {
    WriteAsha(spec, *proto.mutable_search()->mutable_asha());
  } else if (search == "hyperband") {
    WriteAsha(spec, *proto.mutable_search()->mutable_hyperband());
  } else {
    proto.mutable_search()->mutable_grid();
  }
  proto.set_max_concurrent(max_concurrent);
  if (median_stop.enabled) {
    proto.mutable_search()->mutable_median_stop()->set_grace_tokens(median_stop.grace_tokens);
    proto.mutable_search()->mutable_median_stop()->set_min_trials(median_stop.min_trials);
  }
  proto.set_pack(pack);
  proto.mutable_labels()->insert(labels.begin(), labels.end());
  proto.set_queue(queue);
  proto.set_priority(priority);
  proto.set_topology(TopologyToProto(topology));
  for (const config::RetryRule& rule : retry) {
    saeloom::v1::RetryRule* out = proto.add_retry();
    for (const std::string& word : rule.on) {
      saeloom::v1::FailureClass failure = saeloom::v1::FAILURE_CLASS_UNSPECIFIED;
      if (saeloom::v1::FailureClass_Parse(word, &failure)) out->add_on(failure);
    }
    out->set_limit(rule.limit);
    out->set_exclude_node(rule.exclude_node);
  }
  proto.mutable_checkpoints()->set_keep_latest(checkpoints.keep_latest);
  proto.mutable_checkpoints()->set_keep_best(checkpoints.keep_best);
  proto.mutable_checkpoints()->set_keep_sweep_best(checkpoints.keep_sweep_best);
  proto.set_grace_seconds(grace_seconds);
  proto.set_progress_timeout_seconds(progress_timeout_seconds);
  return proto;
}

std::string BareName(const std::string& name) {
  const std::size_t slash = name.rfind('/');
  return slash == std::string::npos ? name : name.substr(slash + 1);
}

std::string SweepName(const std::string& sweep) {
  return absl::StrCat("projects/default/sweeps/", sweep);
}

std::string TrialName(const std::string& sweep, const std::string& trial) {
  return absl::StrCat(SweepName(sweep), "/trials/", trial);
}

}  // namespace sae
