#include "client/cli/json_view.h"

#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "absl/strings/ascii.h"
#include "absl/strings/match.h"
#include <google/protobuf/struct.pb.h>
#include <google/protobuf/util/time_util.h>

namespace sae::cli {
namespace {
using google::protobuf::FieldDescriptor;
using json = nlohmann::ordered_json;

json View(const google::protobuf::Message& message);

json ValueView(const google::protobuf::Value& v) {
  switch (v.kind_case()) {
    case google::protobuf::Value::kNumberValue:
      if (std::abs(v.number_value()) < 9007199254740992.0 &&
          v.number_value() == std::nearbyint(v.number_value())) {
        return static_cast<std::int64_t>(v.number_value());
      }
      return v.number_value();
    case google::protobuf::Value::kStringValue:
      return v.string_value();
    case google::protobuf::Value::kBoolValue:
      return v.bool_value();
    default:
      return nullptr;
  }
}

/// `index` < 0: a field that is not repeated.
json FieldView(const google::protobuf::Message& m, const FieldDescriptor* f, int index) {
  const auto* r = m.GetReflection();
  const bool one = index < 0;
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_BOOL:
      return one ? r->GetBool(m, f) : r->GetRepeatedBool(m, f, index);
    case FieldDescriptor::CPPTYPE_INT32:
      return one ? r->GetInt32(m, f) : r->GetRepeatedInt32(m, f, index);
    case FieldDescriptor::CPPTYPE_INT64:
      return one ? r->GetInt64(m, f) : r->GetRepeatedInt64(m, f, index);
    case FieldDescriptor::CPPTYPE_UINT32:
      return one ? r->GetUInt32(m, f) : r->GetRepeatedUInt32(m, f, index);
    case FieldDescriptor::CPPTYPE_UINT64:
      return one ? r->GetUInt64(m, f) : r->GetRepeatedUInt64(m, f, index);
    case FieldDescriptor::CPPTYPE_FLOAT:
      return one ? r->GetFloat(m, f) : r->GetRepeatedFloat(m, f, index);
    case FieldDescriptor::CPPTYPE_DOUBLE:
      return one ? r->GetDouble(m, f) : r->GetRepeatedDouble(m, f, index);
    case FieldDescriptor::CPPTYPE_STRING:
      return one ? r->GetString(m, f) : r->GetRepeatedString(m, f, index);
    case FieldDescriptor::CPPTYPE_ENUM:
      return EnumName(one ? r->GetEnum(m, f) : r->GetRepeatedEnum(m, f, index));
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return View(one ? r->GetMessage(m, f) : r->GetRepeatedMessage(m, f, index));
  }
  return nullptr;
}

json MapView(const google::protobuf::Message& m, const FieldDescriptor* f) {
  std::map<std::string, json> sorted;
  const auto* r = m.GetReflection();
  for (int i = 0; i < r->FieldSize(m, f); ++i) {
    const google::protobuf::Message& entry = r->GetRepeatedMessage(m, f, i);
    sorted[entry.GetReflection()->GetString(entry, f->message_type()->map_key())] =
        FieldView(entry, f->message_type()->map_value(), -1);
  }
  json out = json::object();
  for (auto& [key, value] : sorted) out[key] = std::move(value);
  return out;
}

json View(const google::protobuf::Message& m) {
  if (const auto* time = dynamic_cast<const google::protobuf::Timestamp*>(&m)) {
    return google::protobuf::util::TimeUtil::ToString(*time);
  }
  if (const auto* value = dynamic_cast<const google::protobuf::Value*>(&m))
    return ValueView(*value);
  json out = json::object();
  const auto* r = m.GetReflection();
  for (int i = 0; i < m.GetDescriptor()->field_count(); ++i) {
    const FieldDescriptor* f = m.GetDescriptor()->field(i);
    if (f->is_map()) {
      out[f->name()] = MapView(m, f);
    } else if (f->is_repeated()) {
      json list = json::array();
      for (int j = 0; j < r->FieldSize(m, f); ++j) list.push_back(FieldView(m, f, j));
      out[f->name()] = std::move(list);
    } else if (!f->has_presence() || r->HasField(m, f)) {
      out[f->name()] = FieldView(m, f, -1);
    }
  }
  return out;
}

}  // namespace

std::string EnumName(const google::protobuf::EnumValueDescriptor* value) {
  std::string prefix;  // FailureClass -> FAILURE_CLASS_
  for (const char c : value->type()->name()) {
    if (absl::ascii_isupper(static_cast<unsigned char>(c)) && !prefix.empty()) prefix += '_';
    prefix += absl::ascii_toupper(static_cast<unsigned char>(c));
  }
  prefix += '_';
  return absl::StartsWith(value->name(), prefix) ? value->name().substr(prefix.size())
                                                 : value->name();
}

std::string JsonText(const google::protobuf::Message& message, int indent) {
  return View(message).dump(indent, ' ', false, json::error_handler_t::replace);
}

}  // namespace sae::cli
