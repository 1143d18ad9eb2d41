// retry and cancel: the verbs that change a sweep.

#include <CLI/CLI.hpp>
#include <memory>
#include <ostream>

#include "absl/strings/str_join.h"

#include "client/cli/json_view.h"
#include "client/cli/trial_view.h"
#include "client/cli/verb.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {

absl::Status Retry(const std::string& sweep, const std::vector<std::string>& trials,
                   Session& session) {
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  std::vector<std::string> bare;
  for (const std::string& t : trials) bare.push_back(BareName(t));
  SAE_ASSIGN_OR_RETURN(const auto response, api->RetryTrials(sweep, bare));
  if (session.json()) {
    session.world.out << JsonText(response) << std::endl;
  } else if (response.trials().empty()) {
    session.world.out << "nothing to retry: no trial of " << BareName(sweep) << " has failed"
                      << std::endl;
  } else {
    session.world.out << "pending again: "
                      << absl::StrJoin(
                             response.trials(), " ",
                             [](std::string* out, const std::string& t) { *out += BareName(t); })
                      << std::endl;
  }
  return absl::OkStatus();
}

absl::Status Cancel(const std::string& name, Session& session) {
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const auto sweep, api->CancelSweep(name));
  if (session.json()) {
    session.world.out << JsonText(sweep) << std::endl;
  } else {
    session.world.out << "sweep " << BareName(name) << ": " << StateText(sweep.state()) << ", "
                      << CountsText(sweep) << std::endl;
  }
  return absl::OkStatus();
}

}  // namespace

void AddRetry(CLI::App& app, Session& session) {
  struct Options {
    std::string sweep;
    std::vector<std::string> trials;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      app.add_subcommand("retry", "run failed trials again, from their last checkpoints");
  verb->add_option("sweep", options->sweep, "name of the sweep")->required();
  verb->add_option("--trial", options->trials, "this trial only; may be given several times");
  verb->footer("Examples:\n  saeloom retry demo\n  saeloom retry demo --trial 0003");
  verb->callback(
      [options, &session] { session.status = Retry(options->sweep, options->trials, session); });
}

void AddCancel(CLI::App& app, Session& session) {
  auto name = std::make_shared<std::string>();
  CLI::App* verb =
      app.add_subcommand("cancel", "end a sweep; its running trials stop with a checkpoint");
  verb->add_option("sweep", *name, "name of the sweep")->required();
  verb->footer("Example:\n  saeloom cancel demo");
  verb->callback([name, &session] { session.status = Cancel(*name, session); });
}

}  // namespace sae::cli
