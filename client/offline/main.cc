// saeloom-offline: the verbs that need numbers but no coordinator. `saeloom VERB` hands over to it.

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>

#include "client/offline/verb.h"
#include "sae/base/exit_code.h"
#include "sae/base/log.h"

namespace {

/// "harvest", or "lm info": the subcommands that were chosen, outermost first.
std::string ChosenVerb(const CLI::App& app) {
  std::string verb;
  const CLI::App* at = &app;
  while (!at->get_subcommands().empty()) {
    at = at->get_subcommands().front();
    verb += (verb.empty() ? "" : " ") + at->get_name();
  }
  return verb;
}

}  // namespace

int main(int argc, char** argv) {
  sae::InitLogging("saeloom");
  CLI::App app{"Saeloom: work with activations and sparse autoencoders, without a coordinator",
               "saeloom"};
  app.require_subcommand(1);
  app.fallthrough();  // options of the program may stand after the verb
  sae::client::Invocation invocation;
  app.add_option("-o,--output", invocation.output, "how results are printed: table or json")
      ->check(CLI::IsMember({"table", "json"}));

  sae::client::AddLm(app, invocation);
  sae::client::AddHarvest(app, invocation);
  sae::client::AddStore(app, invocation);
  sae::client::AddLatents(app, invocation);
  sae::client::AddEncode(app, invocation);
  sae::client::AddExport(app, invocation);
  sae::client::AddImport(app, invocation);
  sae::client::AddBench(app, invocation);

  try {
    app.parse(argc, argv);
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error);  // --help
    const std::string verb = ChosenVerb(app);
    std::fprintf(stderr, "saeloom: %s%s%s (try: saeloom %s--help)\n", verb.c_str(),
                 verb.empty() ? "" : ": ", error.what(), verb.empty() ? "" : (verb + " ").c_str());
    return 2;
  }
  if (!invocation.status.ok()) {
    std::fprintf(stderr, "saeloom: %s: %s\n", ChosenVerb(app).c_str(),
                 sae::Message(invocation.status).c_str());
  }
  return sae::ExitCode(invocation.status);
}
