#include <CLI/CLI.hpp>

#include "client/cli/print.h"
#include "client/cli/verb.h"
#include "sae/config/sweep_schema.h"

namespace sae::cli {

void AddSchema(CLI::App& app, Session& session) {
  CLI::App* verb =
      AddVerb(app, session, "schema", "the JSON Schema of a sweep's file (no coordinator needed)",
              {"% > sweep.schema.json", "% -o yaml"}, {},
              "JSON whatever the form, but for yaml. An editor that knows it completes "
              "and checks the file.");
  OnRun(verb, session, [&session]() -> absl::Status {
    const std::string schema = config::SweepSchema() + "\n";
    Print(session, session.json() ? MachineText(session, schema) : schema);
    return absl::OkStatus();
  });
}

}  // namespace sae::cli
