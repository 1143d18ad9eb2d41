// `saeloom trial stop|pause|resume|promote`: of one trial or several.

#include <CLI/CLI.hpp>
#include <memory>

#include "client/cli/await.h"
#include "client/cli/names.h"
#include "client/cli/print.h"
#include "client/cli/trial_view.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {
using saeloom::v1::Trial;
using saeloom::v1::TrialService;
using TrialStub = TrialService::StubInterface;
using Done = bool (*)(const Trial&);

std::string Line(const Trial& trial) {
  std::string out = absl::StrCat("trial ", ShortName(trial.name()), ": ", StateText(trial.state()));
  if (!trial.stopping().empty()) absl::StrAppend(&out, ", about to ", trial.stopping());
  return out;
}

template <class Request>
absl::Status Change(Api::Method<TrialStub, Request, Trial> method, Done done,
                    const std::vector<std::string>& names, Session& session) {
  if (session.wait) session.CatchSignals();
  std::vector<std::string> resources;
  for (const std::string& name : names) {
    SAE_ASSIGN_OR_RETURN(resources.emplace_back(), TrialResource(name));
  }
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  std::vector<Trial> trials;
  for (const std::string& resource : resources) {
    Request request;
    request.set_name(resource);
    SAE_ASSIGN_OR_RETURN(trials.emplace_back(), api->Mutate(method, request));
  }
  for (std::size_t i = 0; i < trials.size(); ++i) {
    Trial& trial = trials[i];
    if (session.wait) {
      SAE_ASSIGN_OR_RETURN(const TrialReference ref, ParseTrialReference(resources[i]));
      SAE_RETURN_IF_ERROR(Await(session, "the change goes on", [&]() -> absl::StatusOr<bool> {
        SAE_ASSIGN_OR_RETURN(trial, api->GetTrial(ref.sweep, ref.trial));
        return done(trial);
      }));
    }
    PrintChanged(session, trial, ShortName(resources[i]), Line(trial));
  }
  return absl::OkStatus();
}

bool IsPaused(const Trial& t) { return Ended(t.state()) || t.state() == Trial::STATE_PAUSED; }
bool HasEnded(const Trial& t) { return Ended(t.state()); }
bool IsUnderWay(const Trial& t) { return Ended(t.state()) || t.state() == Trial::STATE_RUNNING; }

template <class Request>
void AddOne(CLI::App& noun, Session& session, const char* verb_name, const char* description,
            Api::Method<TrialStub, Request, Trial> method, Done done, const char* until) {
  auto names = std::make_shared<std::vector<std::string>>();
  CLI::App* verb = AddVerb(noun, session, verb_name, description,
                           {"% demo/0003", "% demo/0003 demo/0004 --wait"},
                           {.wait = true, .change = true, .names = true}, until);
  verb->add_option("trial", *names, "SWEEP/TRIAL, one or more")->required();
  OnRun(verb, session, [=, &session] { return Change<Request>(method, done, *names, session); });
}

}  // namespace

void AddTrialChange(CLI::App& noun, Session& session) {
  AddOne<saeloom::v1::StopTrialRequest>(
      noun, session, "stop", "end it early as a success, with a last checkpoint",
      &TrialStub::StopTrial, HasEnded, "With --wait until it has ended.");
  AddOne<saeloom::v1::PauseTrialRequest>(
      noun, session, "pause", "save a checkpoint, stop, and stay stopped until it is resumed",
      &TrialStub::PauseTrial, IsPaused, "With --wait until it is PAUSED.");
  AddOne<saeloom::v1::ResumeTrialRequest>(noun, session, "resume", "go on with a paused trial",
                                          &TrialStub::ResumeTrial, IsUnderWay,
                                          "With --wait until it runs.");
  AddOne<saeloom::v1::PromoteTrialRequest>(
      noun, session, "promote",
      "let a paused trial of an asha search go to its next rung, whatever its rank",
      &TrialStub::PromoteTrial, IsUnderWay, "With --wait until it runs.");
}

}  // namespace sae::cli
