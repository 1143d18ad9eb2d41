// retry and cancel: they stand alone and in `sweep`.

#include <CLI/CLI.hpp>
#include <memory>

#include "absl/strings/str_join.h"

#include "client/cli/await.h"
#include "client/cli/print.h"
#include "client/cli/sweep_text.h"
#include "client/cli/verb.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {
using saeloom::v1::SweepService;

struct RetryOptions {
  std::string sweep;
  std::vector<std::string> trials;
  bool missing = false;
};

absl::Status Retry(const RetryOptions& options, Session& session) {
  saeloom::v1::RetryTrialsRequest request;
  request.set_parent(SweepName(BareName(options.sweep)));
  for (const std::string& t : options.trials) request.add_trials(BareName(t));
  request.set_filter(session.filter);
  request.set_missing(options.missing);
  if (session.wait) session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const auto response,
                       api->Mutate(&SweepService::StubInterface::RetryTrials, request));
  const std::string names = absl::StrJoin(
      response.trials(), " ", [](std::string* out, const std::string& t) { *out += BareName(t); });
  if (session.names()) {
    for (const std::string& t : response.trials())
      Print(session, absl::StrCat(BareName(options.sweep), "/", BareName(t), "\n"));
  } else {
    PrintChanged(
        session, response, "",
        response.trials().empty()
            ? absl::StrCat("nothing to retry: no trial of ", BareName(options.sweep),
                           session.filter.empty() && !options.missing ? " has failed" : " matches")
            : "pending again: " + names);
  }
  if (!session.wait || response.trials().empty()) return absl::OkStatus();
  return AwaitSweep(session, *api, options.sweep);
}

absl::Status Cancel(const std::string& name, saeloom::v1::CancelSweepRequest::Mode mode,
                    Session& session) {
  saeloom::v1::CancelSweepRequest request;
  request.set_name(SweepName(BareName(name)));
  request.set_mode(mode);
  if (session.wait) session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(auto sweep, api->Mutate(&SweepService::StubInterface::CancelSweep, request));
  if (session.wait) {
    SAE_RETURN_IF_ERROR(AwaitState(session, *api, name, SweepHasEnded, sweep));
  }
  PrintChanged(session, sweep, BareName(name), SweepLine(sweep));
  return absl::OkStatus();
}

}  // namespace

void AddRetry(CLI::App& app, Session& session) {
  auto options = std::make_shared<RetryOptions>();
  CLI::App* verb =
      AddVerb(app, session, "retry", "run failed trials again, from their last checkpoints",
              {"% demo", "% demo --trial 0003", "% demo --filter failure_class=USER_ERROR",
               "% demo --missing --wait"},
              {.wait = true, .change = true, .names = true});
  verb->add_option("sweep", options->sweep, "name of the sweep")->required();
  CLI::Option* trial =
      AddRepeated(verb, "--trial", options->trials, "this trial only; may be given several times");
  CLI::Option* missing = verb->add_flag("--missing", options->missing,
                                        "all points without a success: failed and cancelled ones");
  CLI::Option* filter =
      verb->add_option("--filter", session.filter, "those that match, as state=CANCELLED");
  missing->excludes(trial)->excludes(filter);
  filter->excludes(trial);
  OnRun(verb, session, [options, &session] { return Retry(*options, session); });
}

void AddCancel(CLI::App& app, Session& session) {
  using Request = saeloom::v1::CancelSweepRequest;
  struct Options {
    std::string sweep;
    bool now = false;
  };
  auto options = std::make_shared<Options>();
  const bool alone = app.get_parent() == nullptr;
  CLI::App* verb = AddVerb(app, session, "cancel",
                           alone ? "end a sweep; its running trials stop with a checkpoint"
                                 : "end a sweep; its running trials save a last checkpoint first",
                           alone ? std::vector<std::string>{"% demo"}
                                 : std::vector<std::string>{"% demo --wait", "% demo --now"},
                           {.wait = true, .change = true, .names = true});
  verb->add_option("sweep", options->sweep, "name of the sweep")->required();
  verb->add_flag("--now", options->now, "do not let trials save");
  OnRun(verb, session, [options, alone, &session] {
    return Cancel(options->sweep,
                  options->now ? Request::MODE_NOW
                  : alone      ? Request::MODE_UNSPECIFIED
                               : Request::MODE_GRACEFUL,
                  session);
  });
}

}  // namespace sae::cli
