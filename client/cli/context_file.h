#pragma once
// Named coordinators: $XDG_CONFIG_HOME/saeloom/config.yaml (else ~/.config/...), with their
// addresses and the paths of certificates and tokens; no secret stands in it. Plain values. Errors:
// INVALID_ARGUMENT for a file that is not one, naming the key; FAILED_PRECONDITION where neither
// $XDG_CONFIG_HOME nor $HOME is set.

#include <string>
#include <vector>

#include "client/cli/world.h"
#include "sae/base/status.h"

namespace sae::cli {

struct Context {
  std::string name;
  std::string server;  ///< HOST:PORT
  std::string ca, cert, key, token_file;
};

struct ContextFile {
  std::string current;  ///< "" = none
  std::vector<Context> contexts;

  Context* Find(const std::string& name);
};

[[nodiscard]] absl::StatusOr<std::string> ContextFilePath(const World& world);
/// An empty one when there is no file.
[[nodiscard]] absl::StatusOr<ContextFile> LoadContexts(const World& world);
/// Atomic, mode 0600.
[[nodiscard]] absl::Status SaveContexts(const ContextFile& file, const World& world);
/// NOT_FOUND that names the known ones.
absl::Status NoSuchContext(const ContextFile& file, const std::string& name);
std::string ContextJson(const Context& context, bool current);

}  // namespace sae::cli
