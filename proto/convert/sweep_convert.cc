#include "proto/convert/sweep_convert.h"

#include <cmath>
#include <nlohmann/json.hpp>
#include <type_traits>

#include "absl/strings/str_split.h"

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
  return out;
}

saeloom::v1::Parameter ParameterToProto(const config::Parameter& parameter) {
  using Kind = config::Parameter::Kind;
  saeloom::v1::Parameter out;
  const auto& [path, kind, values, min, max, step] = parameter;
  out.set_path(path);
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
  spec.max_concurrent = proto.max_concurrent();
  spec.pack = proto.pack();
  return spec;
}

saeloom::v1::SweepSpec ToProto(const config::SweepSpec& spec) {
  // The binding lists every field: one more in the struct stops the build here.
  const auto& [name, store, store_hash, store_d, store_target_d, trial, parameters, metric,
               minimize, constraints, search, max_trials, search_seed, max_concurrent, pack] = spec;
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
  } else {
    proto.mutable_search()->mutable_grid();
  }
  proto.set_max_concurrent(max_concurrent);
  proto.set_pack(pack);
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
