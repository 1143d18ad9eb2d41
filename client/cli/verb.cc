#include "client/cli/verb.h"

#include <CLI/CLI.hpp>
#include <ostream>

#include "absl/strings/str_replace.h"

#include "client/cli/tree.h"

namespace sae::cli {

absl::StatusOr<std::unique_ptr<Api>> Session::Connect() {
  if (!(timeout_seconds > 0))
    return absl::InvalidArgumentError("--timeout: needs a positive number of seconds");
  SAE_ASSIGN_OR_RETURN(Connection to, ResolveConnection(connection, world));
  ApiOptions options;
  SAE_ASSIGN_OR_RETURN(options.channel, MakeClientCredentials(to.credentials, to.address.target));
  options.credentials = std::move(to.credentials);
  options.address = std::move(to.address);
  options.timeout = absl::Seconds(timeout_seconds);
  options.clock = &world.clock;
  options.request_id = request_id;
  if (options.request_id.empty() && world.new_request_id)
    options.request_id = world.new_request_id();
  return std::make_unique<Api>(std::move(options));
}

bool Session::Interrupted(absl::Duration within) {
  if (!signals) {
    if (within > absl::ZeroDuration()) world.clock.SleepFor(within);
    return false;
  }
  return signals->Wait(within).has_value();
}

void Session::Note(const std::string& text) {
  if (!quiet) world.err << text << std::endl;
}

CLI::App* AddVerb(CLI::App& parent, Session& session, const std::string& name,
                  const std::string& description, const std::vector<std::string>& examples,
                  Takes takes, const std::string& note) {
  CLI::App* verb = parent.add_subcommand(name, description);
  if (takes.list) {
    verb->add_option("--limit", session.limit, "at most so many")->check(CLI::NonNegativeNumber);
    verb->add_option("--filter", session.filter, "only what matches, as state=RUNNING");
  }
  if (takes.watch) {
    verb->add_flag("--watch", session.watch, "again whenever something changes, until Ctrl-C");
  }
  if (takes.wait) verb->add_flag("--wait", session.wait, "until it is done");
  if (takes.change) {
    verb->add_option("--request-id", session.request_id,
                     "doing it twice with the same one does it once (default: a new one)");
  }
  const std::string path = PathOf(*verb);
  std::string footer = examples.size() == 1 ? "Example:" : "Examples:";
  for (const std::string& example : examples)
    footer += "\n  " + absl::StrReplaceAll(example, {{"%", path}});
  if (!note.empty()) footer += "\n" + note;
  verb->footer(footer);
  if (takes.names) session.name_verbs.insert(verb);
  return verb;
}

CLI::Option* AddRepeated(CLI::App* verb, const std::string& flag, std::vector<std::string>& values,
                         const std::string& description) {
  return verb->add_option(flag, values, description)->allow_extra_args(false);
}

CLI::App* AddNoun(CLI::App& app, const std::string& name, const std::string& description) {
  CLI::App* noun = app.add_subcommand(name, description);
  noun->require_subcommand(1);
  noun->footer("Each verb has its own --help; flags for all: saeloom --help");
  return noun;
}

void OnRun(CLI::App* verb, Session& session, std::function<absl::Status()> run) {
  verb->callback([&session, run = std::move(run)] { session.run = run; });
}

}  // namespace sae::cli
