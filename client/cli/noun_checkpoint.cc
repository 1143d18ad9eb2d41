// `saeloom checkpoint list|protect|unprotect|gc`.

#include <CLI/CLI.hpp>
#include <memory>

#include "client/cli/kinds.h"
#include "client/cli/names.h"
#include "client/cli/verb.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {
using saeloom::v1::Checkpoint;
using TrialStub = saeloom::v1::TrialService::StubInterface;

/// Of one trial, or of every trial of a sweep.
absl::StatusOr<std::vector<Checkpoint>> Checkpoints(Api& api, const std::string& name) {
  if (const auto ref = ParseTrialReference(name); ref.ok())
    return api.ListCheckpoints(ref->sweep, ref->trial);
  SAE_ASSIGN_OR_RETURN(const auto trials, api.ListTrials(name));
  std::vector<Checkpoint> out;
  for (const auto& t : trials) {
    SAE_ASSIGN_OR_RETURN(const auto some, api.ListCheckpoints(name, BareName(t.name())));
    out.insert(out.end(), some.begin(), some.end());
  }
  return out;
}

void AddCheckpointList(CLI::App& noun, Session& session) {
  auto name = std::make_shared<std::string>();
  CLI::App* verb = AddVerb(noun, session, "list", "checkpoints of a trial, or of all of a sweep",
                           {"% demo/0003", "% demo -o wide", "% demo/0003 -o name"},
                           {.watch = true, .names = true});
  verb->add_option("sweep", *name, "SWEEP or SWEEP/TRIAL")->required();
  OnRun(verb, session, [name, &session] {
    return Show(session, [name, &session](Api& api) -> absl::StatusOr<std::string> {
      SAE_ASSIGN_OR_RETURN(const auto rows, Checkpoints(api, *name));
      return ListText(session, CheckpointKind(session.world.clock.Now()), rows);
    });
  });
}

void AddProtect(CLI::App& noun, Session& session, bool protect) {
  auto names = std::make_shared<std::vector<std::string>>();
  CLI::App* verb = AddVerb(noun, session, protect ? "protect" : "unprotect",
                           protect ? "never delete these checkpoints"
                                   : "leave these checkpoints to the sweep's policy again",
                           {"% demo/0003/step-000000000244"}, {.change = true, .names = true});
  verb->add_option("checkpoint", *names, "SWEEP/TRIAL/CHECKPOINT, one or more")->required();
  OnRun(verb, session, [names, protect, &session]() -> absl::Status {
    SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
    for (const std::string& name : *names) {
      saeloom::v1::ProtectCheckpointRequest request;
      SAE_ASSIGN_OR_RETURN(*request.mutable_name(), CheckpointResource(name));
      request.set_protect(protect);
      SAE_ASSIGN_OR_RETURN(const Checkpoint c, api->Mutate(&TrialStub::ProtectCheckpoint, request));
      PrintChanged(session, c, ShortName(request.name()),
                   absl::StrCat("checkpoint ", ShortName(request.name()), ": ",
                                c.protected_() ? "protected" : "not protected"));
    }
    return absl::OkStatus();
  });
}

absl::Status Collect(const std::string& sweep, bool dry_run, Session& session) {
  saeloom::v1::CollectCheckpointsRequest request;
  request.set_parent(SweepName(BareName(sweep)));
  request.set_dry_run(dry_run);
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const auto response, api->Mutate(&TrialStub::CollectCheckpoints, request));
  const auto kind = CheckpointKind(session.world.clock.Now());
  if (session.json()) {
    Print(session, MachineText(session, JsonText(response)));
  } else if (session.names()) {
    Print(session, NamesText(kind, response.deleted()));
  } else {
    std::string text;
    if (!response.deleted().empty()) text = TableText(session, kind, response.deleted()) + "\n";
    std::int64_t bytes = 0;
    for (const Checkpoint& c : response.deleted()) bytes += c.bytes();
    absl::StrAppend(&text, dry_run ? "would delete " : "deletes ", response.deleted_size(),
                    bytes > 0 ? absl::StrCat(" (", Bytes(static_cast<double>(bytes)), ")") : "",
                    ", keeps ", response.kept_size(), "\n");
    if (!session.quiet || dry_run) Print(session, text);
  }
  return absl::OkStatus();
}

}  // namespace

void AddCheckpoint(CLI::App& app, Session& session) {
  CLI::App* noun = AddNoun(app, "checkpoint", "checkpoints: what is kept, and what may go");
  AddCheckpointList(*noun, session);
  AddProtect(*noun, session, true);
  AddProtect(*noun, session, false);
  struct Options {
    std::string sweep;
    bool dry_run = false;
  };
  auto options = std::make_shared<Options>();
  CLI::App* verb =
      AddVerb(*noun, session, "gc", "delete the checkpoints that the sweep's policy does not keep",
              {"% demo --dry-run", "% demo"}, {.change = true, .names = true});
  verb->add_option("sweep", options->sweep, "name of the sweep")->required();
  verb->add_flag("--dry-run", options->dry_run, "say what would go, delete nothing");
  OnRun(verb, session,
        [options, &session] { return Collect(options->sweep, options->dry_run, session); });
}

}  // namespace sae::cli
