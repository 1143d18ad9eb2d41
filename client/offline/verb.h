#pragma once
// Verbs of saeloom-offline. Each verb is one function in its own file that adds a subcommand with flags,
// examples in the footer, and a callback that stores its Status. main() turns it into an exit code.

#include <string>

#include "sae/base/status.h"

namespace CLI {
class App;
}

namespace sae::client {

struct Invocation {
  absl::Status status;      ///< what the chosen verb's callback returned
  std::string output = "table";  ///< -o table | json
};

void AddLm(CLI::App& app, Invocation& invocation);        // lm info|tokenize
void AddHarvest(CLI::App& app, Invocation& invocation);
void AddStore(CLI::App& app, Invocation& invocation);     // store create|info|verify
void AddLatents(CLI::App& app, Invocation& invocation);   // texts that excite latents most
void AddEncode(CLI::App& app, Invocation& invocation);
void AddExport(CLI::App& app, Invocation& invocation);    // --checkpoint form
void AddImport(CLI::App& app, Invocation& invocation);
void AddBench(CLI::App& app, Invocation& invocation);     // bench recovery

}  // namespace sae::client
