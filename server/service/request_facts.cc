#include "server/service/request_facts.h"

#include <google/protobuf/descriptor.h>

namespace sae::server {
namespace {
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

/// The first of these fields that a request has names what it is about; a part's name is read where
/// the request holds the whole resource.
constexpr const char* kNames[] = {"name",  "parent", "source", "trial",     "id",
                                  "sweep", "queue",  "spec",   "principal", "worker_id"};

std::string StringField(const Message& message, const char* name) {
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
  if (field == nullptr || field->is_repeated() ||
      field->cpp_type() != FieldDescriptor::CPPTYPE_STRING)
    return "";
  return message.GetReflection()->GetString(message, field);
}

bool BoolField(const Message& message, const char* name) {
  const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
  return field != nullptr && !field->is_repeated() &&
         field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL &&
         message.GetReflection()->GetBool(message, field);
}

std::string ResourceOf(const Message& message) {
  std::string parent;
  for (const char* name : kNames) {
    const FieldDescriptor* field = message.GetDescriptor()->FindFieldByName(name);
    if (field == nullptr || field->is_repeated()) continue;
    std::string text;
    if (field->cpp_type() == FieldDescriptor::CPPTYPE_STRING) {
      text = message.GetReflection()->GetString(message, field);
    } else if (field->cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE &&
               message.GetReflection()->HasField(message, field)) {
      text = StringField(message.GetReflection()->GetMessage(message, field), "name");
    }
    // A project says less than what is to be made in it.
    if (text == "projects/default") {
      parent = text;
    } else if (!text.empty()) {
      return text;
    }
  }
  return parent;
}

}  // namespace

RequestFacts ReadRequest(const Message& request) {
  return {ResourceOf(request), StringField(request, "request_id"),
          BoolField(request, "validate_only") || BoolField(request, "dry_run")};
}

}  // namespace sae::server
