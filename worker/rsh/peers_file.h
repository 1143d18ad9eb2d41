#pragma once
// What the head of a gang writes for saeloom-rsh, which mpirun starts without arguments of ours:
// JSON, readable by its user alone for the token in it. A plain value.

#include <map>
#include <string>

#include "sae/base/env.h"
#include "sae/base/status.h"

namespace saeloom::rsh {

/// Environment variable with the path of the file.
inline constexpr char kPeersVariable[] = "SAELOOM_PEERS";

struct PeersFile {
  std::string sweep, trial;
  int attempt = 0;
  std::string token;
  std::map<std::string, std::string>
      addresses;              ///< HOST:PORT of the peer's service by its name for MPI
  double connect_seconds = 10;  ///< for a peer to be reached
  std::string cert, key, ca;  ///< PEM files; all empty = without TLS
};

/// Replaces `path`, mode 0600.
[[nodiscard]] absl::Status WritePeersFile(const std::string& path, const PeersFile& peers);
[[nodiscard]] absl::StatusOr<PeersFile> ReadPeersFile(sae::Env& env, const std::string& path);

}  // namespace saeloom::rsh
