#include "client/offline/verb.h"

#include <CLI/CLI.hpp>

namespace sae::client {

void AddHarvest(CLI::App& app, Invocation& invocation) {
  app.add_subcommand("harvest", "being written")->callback([&invocation] {
    invocation.status = absl::UnimplementedError("being written");
  });
}

}  // namespace sae::client
