#pragma once
// Messages of the API as JSON for `-o json`: field names as in the .proto files, integers as
// numbers, enums without their prefix ("RUNNING"), times as RFC 3339, numbers that are not finite
// as null. Pure.

#include <string>
#include <vector>

#include <google/protobuf/message.h>

namespace sae::cli {

/// One object; on one line when `indent` < 0.
std::string JsonText(const google::protobuf::Message& message, int indent = 2);
/// An array of objects.
template <class Messages>
std::string JsonArrayText(const Messages& messages) {
  std::string out = "[";
  for (const auto& m : messages) out += (out.size() == 1 ? "\n" : ",\n") + JsonText(m);
  return out + (out.size() == 1 ? "]" : "\n]");
}

/// Name of an enum's value without its type's prefix: STATE_RUNNING -> RUNNING.
std::string EnumName(const google::protobuf::EnumValueDescriptor* value);

}  // namespace sae::cli
