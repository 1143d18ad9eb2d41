#pragma once
// What each role may do: one table of all methods of the API, and the decisions made from it. Pure.

#include <span>
#include <string>

#include "sae/base/status.h"
#include "server/auth/principal.h"

namespace sae::server {

struct MethodAccess {
  const char* service;  ///< "SweepService"
  const char* method;
  Role least;     ///< who may call it at least; kWorker: workers alone
  bool mutating;  ///< each call has an audit record
  bool own;       ///< submitters: of sweeps of their own only
};
/// Every method of every service, in the order of the API.
std::span<const MethodAccess> AllMethods();
/// Null when the table lacks it. `service` with or without "saeloom.v1.".
const MethodAccess* FindMethod(const std::string& service, const std::string& method);

/// "viewer", "submitter", "operator", "admin", "worker"; "none".
std::string ToString(Role role);
/// Of a token: one of the first four. INVALID_ARGUMENT, naming `field`, for another word.
[[nodiscard]] absl::Status ParseTokenRole(const std::string& word, const std::string& field,
                                          Role& role);

/// PERMISSION_DENIED, with the role that is needed. Where `workers_need_certificates` is false, an
/// operator may speak as a worker.
[[nodiscard]] absl::Status Authorize(const Principal& caller, const MethodAccess& access,
                                     bool workers_need_certificates);
/// For methods of `own` sweeps: PERMISSION_DENIED for a submitter when `owner` is another.
[[nodiscard]] absl::Status AuthorizeOwner(const Principal& caller, const MethodAccess& access,
                                          const std::string& sweep, const std::string& owner);

}  // namespace sae::server
