#pragma once
// What a request is about, read from whatever message it is: for the audit, and for whose sweep it
// is. Pure.

#include <string>

#include <google/protobuf/message.h>

namespace sae::server {

struct RequestFacts {
  std::string resource;  ///< the name of what it is about; "" when it names nothing
  std::string request_id;
  bool dry_run = false;  ///< validate_only or dry_run is set
};
RequestFacts ReadRequest(const google::protobuf::Message& request);

}  // namespace sae::server
