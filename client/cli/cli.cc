#include "client/cli/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ostream>

#include "client/cli/exit_code.h"
#include "client/cli/supervisor.h"
#include "client/cli/verb.h"
#include "sae/base/ids.h"

namespace sae::cli {
namespace {

constexpr char kFooter[] =
    "Offline verbs (no coordinator; each has its own --help):\n"
    "  harvest  store  lm  encode  import  latents  bench  export --checkpoint DIR\n\n"
    "Examples:\n"
    "  saeloom up                                   # a coordinator and a worker here, until "
    "Ctrl-C\n"
    "  saeloom plan examples/demo.yaml              # what it would run\n"
    "  saeloom submit examples/demo.yaml --follow   # run it and watch\n"
    "  saeloom best demo --svg pareto.svg           # the result table and its figure\n"
    "  saeloom export demo --best --format saelens --out sae\n\n"
    "The coordinator's address: --server, $SAELOOM_ADDR, then .saeloom/address here or in a "
    "parent.\n"
    "Exit codes: 0 ok; 2 usage or bad input; 3 not found; 4 not allowed; 5 wrong state; 6 "
    "coordinator unreachable;\n"
    "1 all else; with --wait 10 some trials failed, 11 the sweep failed or was cancelled.";

std::string ChosenVerb(const CLI::App& app) {
  return app.get_subcommands().empty() ? "" : app.get_subcommands().front()->get_name();
}

void AddAll(CLI::App& app, Session& session) {
  AddUp(app, session);
  AddValidate(app, session);
  AddPlan(app, session);
  AddSubmit(app, session);
  AddList(app, session);
  AddGet(app, session);
  AddWatch(app, session);
  AddLogs(app, session);
  AddBest(app, session);
  AddExport(app, session);
  AddRetry(app, session);
  AddCancel(app, session);
  AddWorkers(app, session);
  AddVersion(app, session);
  AddCompletion(app, session);
}

int Report(const absl::Status& status, const std::string& verb, World& world) {
  if (!status.ok())
    world.err << "saeloom" << (verb.empty() ? "" : " " + verb) << ": " << Message(status)
              << std::endl;
  return ExitCode(status);
}

/// CLI11 only says that a subcommand is missing; "" when the first word is a verb or a flag.
std::string UnknownVerb(const CLI::App& app, const std::vector<std::string>& args) {
  if (args.empty() || args[0].empty() || args[0][0] == '-') return "";
  std::vector<std::string> known;
  for (const CLI::App* verb : app.get_subcommands({})) known.push_back(verb->get_name());
  for (const auto& [name, help] : OfflineVerbs()) known.push_back(name);
  if (std::find(known.begin(), known.end(), args[0]) != known.end()) return "";
  const std::string nearest = Nearest(args[0], known);
  return absl::StrCat("unknown verb ", args[0],
                      nearest.empty() ? "" : absl::StrCat(", did you mean ", nearest, "?"));
}

/// The value of --offline in `args`, taken out of them.
std::string TakeOfflineFlag(std::vector<std::string>& args) {
  for (std::size_t i = 0; i + 1 < args.size(); ++i) {
    if (args[i] != "--offline") continue;
    const std::string value = args[i + 1];
    args.erase(args.begin() + static_cast<std::ptrdiff_t>(i),
               args.begin() + static_cast<std::ptrdiff_t>(i) + 2);
    return value;
  }
  return "";
}

}  // namespace

absl::StatusOr<std::unique_ptr<Api>> Session::Connect() const {
  if (!(timeout_seconds > 0))
    return absl::InvalidArgumentError("--timeout: needs a positive number of seconds");
  SAE_ASSIGN_OR_RETURN(Address address, FindAddress(server, world));
  return std::make_unique<Api>(std::move(address), absl::Seconds(timeout_seconds));
}

int RunCli(const std::vector<std::string>& args, World& world) {
  if (!args.empty() && args[0] == "supervised")
    return Report(RunSupervised(args, world), "", world);
  if (IsOffline(args)) {
    std::vector<std::string> rest = args;
    const std::string flag = TakeOfflineFlag(rest);
    return Report(RunOffline(rest, flag, world), "", world);
  }
  Session session(world);
  CLI::App app{"Saeloom: sweeps of sparse autoencoders on language-model activations", "saeloom"};
  app.require_subcommand(1);
  app.fallthrough();
  app.footer(kFooter);
  app.add_option("--server", session.server, "address of the coordinator, HOST:PORT");
  app.add_option("-o,--output", session.output, "how results are printed: table or json")
      ->check(CLI::IsMember({"table", "json"}));
  app.add_option("--timeout", session.timeout_seconds,
                 "seconds that one answer of the coordinator may take")
      ->capture_default_str();
  app.add_option("--offline", session.offline,
                 "path of saeloom-offline; else it is looked up beside this program");
  AddAll(app, session);
  if (const std::string unknown = UnknownVerb(app, args); !unknown.empty()) {
    world.err << "saeloom: " << unknown << " (try: saeloom --help)" << std::endl;
    return 2;
  }
  try {
    std::vector<std::string> reversed(args.rbegin(),
                                      args.rend());  // CLI11 takes them from the back
    app.parse(std::move(reversed));
  } catch (const CLI::ParseError& error) {
    if (error.get_exit_code() == 0) return app.exit(error, world.out, world.err);  // --help
    const std::string verb = ChosenVerb(app);
    world.err << "saeloom" << (verb.empty() ? "" : " " + verb) << ": " << error.what()
              << " (try: saeloom" << (verb.empty() ? "" : " " + verb) << " --help)" << std::endl;
    return 2;
  }
  if (!session.status.ok()) return Report(session.status, ChosenVerb(app), world);
  return session.exit_code;
}

}  // namespace sae::cli
