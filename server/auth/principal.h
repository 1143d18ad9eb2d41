#pragma once
// Who makes a call, and what it may do at most. Pure.

#include <string>

namespace sae::server {

/// Each of the first four may do what those before it may. kWorker is apart: a process that runs
/// trials, not a person.
enum class Role { kNone = 0, kViewer, kSubmitter, kOperator, kAdmin, kWorker };

struct Principal {
  std::string name;  ///< "ann"; "worker/gpu-1" of a certificate; "anonymous" without TLS
  Role role = Role::kNone;
  std::string method;    ///< "token", "certificate", "none"
  std::string token_id;  ///< of a token
  std::string worker;    ///< that the certificate names
};

inline Principal Anonymous() { return {"anonymous", Role::kAdmin, "none", "", ""}; }

}  // namespace sae::server
