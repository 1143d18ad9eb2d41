#include "client/cli/cli.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <ostream>

#include "absl/strings/str_join.h"

#include "client/cli/error_report.h"
#include "client/cli/exit_code.h"
#include "client/cli/supervisor.h"
#include "client/cli/tree.h"

namespace sae::cli {
namespace {

int Report(const absl::Status& status, World& world) {
  if (!status.ok()) WriteError(status, ExitCode(status), false, world.err);
  return ExitCode(status);
}

/// INVALID_ARGUMENT that points at the help of `words`.
absl::Status UsageError(const std::string& message, const std::vector<std::string>& words) {
  absl::Status status = absl::InvalidArgumentError(message);
  AttachHint(status, absl::StrCat("saeloom", words.empty() ? "" : " ", absl::StrJoin(words, " "),
                                  " --help"));
  return status;
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

/// Parses; OK when a verb is chosen or `shown` says that help was printed.
absl::Status Parse(CLI::App& tree, const std::vector<std::string>& args, Session& session,
                   bool& shown) {
  if (const std::string unknown = UnknownVerb(tree, args); !unknown.empty())
    return UsageError(unknown, {});
  try {
    // CLI11 takes them from the back.
    tree.parse(std::vector<std::string>(args.rbegin(), args.rend()));
  } catch (const CLI::ParseError& error) {
    shown = error.get_exit_code() == 0;  // --help
    if (!shown) return UsageError(error.what(), ChosenWords(tree));
    tree.exit(error, session.world.out, session.world.err);
    return absl::OkStatus();
  }
  const std::vector<std::string> words = ChosenWords(tree);
  if (const std::string flag = RefusedFlag(tree); !flag.empty()) {
    return UsageError(
        absl::StrCat(flag, ": `saeloom ", absl::StrJoin(words, " "), "` does not take it"), words);
  }
  if (session.names() && !HasNames(tree, session)) {
    return UsageError(absl::StrCat("-o name: `saeloom ", absl::StrJoin(words, " "),
                                   "` has no names to print: take table, json or yaml"),
                      words);
  }
  return absl::OkStatus();
}

}  // namespace

int RunCli(const std::vector<std::string>& args, World& world) {
  if (!args.empty() && args[0] == "supervised") return Report(RunSupervised(args, world), world);
  if (IsOffline(args)) {
    std::vector<std::string> rest = args;
    const std::string flag = TakeOfflineFlag(rest);
    return Report(RunOffline(rest, flag, world), world);
  }
  Session session(world);
  const auto tree = BuildTree(session);
  bool shown = false;
  absl::Status status = Parse(*tree, args, session, shown);
  if (shown) return 0;
  if (status.ok() && session.run) status = session.run();
  if (status.ok()) return session.exit_code;
  const int code = session.exit_code != 0 ? session.exit_code : ExitCode(status);
  WriteError(status, code, session.json(), world.err);
  return code;
}

}  // namespace sae::cli
