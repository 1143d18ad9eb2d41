// `saeloom sweep pause|resume|cancel|delete|retry|set`.

#include <CLI/CLI.hpp>
#include <memory>
#include <optional>

#include "client/cli/await.h"
#include "client/cli/names.h"
#include "client/cli/print.h"
#include "client/cli/sweep_text.h"
#include "client/cli/verb.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {
using saeloom::v1::Sweep;
using saeloom::v1::SweepService;

absl::Status Pause(const std::string& name, Session& session) {
  saeloom::v1::PauseSweepRequest request;
  request.set_name(SweepName(BareName(name)));
  if (session.wait) session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(Sweep sweep, api->Mutate(&SweepService::StubInterface::PauseSweep, request));
  if (session.wait) {
    SAE_RETURN_IF_ERROR(AwaitState(session, *api, name, SweepIsStill, sweep));
  }
  PrintChanged(session, sweep, BareName(name), SweepLine(sweep));
  return absl::OkStatus();
}

absl::Status Resume(const std::string& name, Session& session) {
  saeloom::v1::ResumeSweepRequest request;
  request.set_name(SweepName(BareName(name)));
  if (session.wait) session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const Sweep sweep,
                       api->Mutate(&SweepService::StubInterface::ResumeSweep, request));
  PrintChanged(session, sweep, BareName(name), SweepLine(sweep));
  return session.wait ? AwaitSweep(session, *api, name) : absl::OkStatus();
}

absl::Status Delete(const std::vector<std::string>& names, Session& session) {
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  for (const std::string& name : names) {
    saeloom::v1::DeleteSweepRequest request;
    request.set_name(SweepName(BareName(name)));
    SAE_RETURN_IF_ERROR(api->Mutate(&SweepService::StubInterface::DeleteSweep, request).status());
    if (session.json()) {
      Print(session, MachineText(session, absl::StrCat("{\"deleted\": \"", BareName(name), "\"}")));
    } else if (session.names()) {
      Print(session, BareName(name) + "\n");
    } else if (!session.quiet) {
      Print(session, "sweep " + BareName(name) + ": deleted; its files stay\n");
    }
  }
  return absl::OkStatus();
}

struct SetOptions {
  std::string sweep;
  std::optional<std::int64_t> priority, max_concurrent;
  std::optional<std::string> queue;
  std::vector<std::string> labels, unlabel;
  std::string etag;
};

/// The labels as they shall be: what is there, without `unlabel`, with `labels`.
absl::Status ChangeLabels(const SetOptions& options, const Sweep& now, Sweep& wanted) {
  SAE_ASSIGN_OR_RETURN(const auto labels, ParsePairs(options.labels, "--label"));
  auto& out = *wanted.mutable_spec()->mutable_labels();
  out = now.spec().labels();
  for (const std::string& key : options.unlabel) {
    if (out.erase(key) == 0) {
      return absl::NotFoundError(
          absl::StrCat("--unlabel: sweep ", BareName(now.name()), " has no label ", key));
    }
  }
  for (const auto& [key, value] : labels) out[key] = value;
  return absl::OkStatus();
}

absl::Status Set(const SetOptions& options, Session& session) {
  saeloom::v1::UpdateSweepRequest request;
  Sweep& wanted = *request.mutable_sweep();
  wanted.set_name(SweepName(BareName(options.sweep)));
  wanted.set_etag(options.etag);
  const auto mask = [&request](const char* path) {
    request.mutable_update_mask()->add_paths(path);
  };
  if (options.priority) {
    wanted.mutable_spec()->set_priority(*options.priority);
    mask("spec.priority");
  }
  if (options.max_concurrent) {
    wanted.mutable_spec()->set_max_concurrent(*options.max_concurrent);
    mask("spec.max_concurrent");
  }
  if (options.queue) {
    wanted.mutable_spec()->set_queue(*options.queue);
    mask("spec.queue");
  }
  const bool labels = !options.labels.empty() || !options.unlabel.empty();
  if (!labels && request.update_mask().paths().empty()) {
    return absl::InvalidArgumentError(
        "nothing to set: give --priority, --max-concurrent, --queue, --label or --unlabel");
  }
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  if (labels) {
    // Read, changed and written against the etag that was read: another's change is not lost.
    SAE_ASSIGN_OR_RETURN(const Sweep now, api->GetSweep(options.sweep));
    SAE_RETURN_IF_ERROR(ChangeLabels(options, now, wanted));
    if (options.etag.empty()) wanted.set_etag(now.etag());
    mask("spec.labels");
  }
  SAE_ASSIGN_OR_RETURN(const Sweep sweep,
                       api->Mutate(&SweepService::StubInterface::UpdateSweep, request));
  PrintChanged(session, sweep, BareName(options.sweep), SweepLine(sweep));
  return absl::OkStatus();
}

void AddSet(CLI::App& noun, Session& session) {
  auto options = std::make_shared<SetOptions>();
  CLI::App* verb = AddVerb(noun, session, "set",
                           "change a sweep as it runs: priority, trials at once, queue, labels",
                           {"% demo --priority 80 --max-concurrent 4", "% demo --queue research",
                            "% demo --label model=gpt2 --unlabel draft"},
                           {.change = true, .names = true});
  verb->add_option("sweep", options->sweep, "name of the sweep")->required();
  verb->add_option("--priority", options->priority, "0 to 100, higher runs first");
  verb->add_option("--max-concurrent", options->max_concurrent,
                   "trials at once; 0 = as many as fit");
  verb->add_option("--queue", options->queue, "move it to this queue");
  AddRepeated(verb, "--label", options->labels, "KEY=VALUE; several times");
  AddRepeated(verb, "--unlabel", options->unlabel, "take this label away; several times");
  verb->add_option("--etag", options->etag, "only if nobody has changed it since it was read");
  OnRun(verb, session, [options, &session] { return Set(*options, session); });
}

}  // namespace

void AddSweepChange(CLI::App& noun, Session& session) {
  const Takes takes = {.wait = true, .change = true, .names = true};
  auto name = std::make_shared<std::string>();
  CLI::App* pause = AddVerb(noun, session, "pause",
                            "start nothing new; running trials save a checkpoint and stop",
                            {"% demo", "% demo --wait"}, takes);
  pause->add_option("sweep", *name, "name of the sweep")->required();
  OnRun(pause, session, [name, &session] { return Pause(*name, session); });

  CLI::App* resume =
      AddVerb(noun, session, "resume", "go on with a paused sweep", {"% demo", "% demo --wait"},
              takes, "With --wait until the sweep has ended; exit codes as submit --wait.");
  resume->add_option("sweep", *name, "name of the sweep")->required();
  OnRun(resume, session, [name, &session] { return Resume(*name, session); });

  AddCancel(noun, session);
  AddRetry(noun, session);

  auto names = std::make_shared<std::vector<std::string>>();
  CLI::App* remove = AddVerb(noun, session, "delete",
                             "forget a sweep that has ended; its files stay where they are",
                             {"% demo", "% demo other"}, {.change = true, .names = true});
  remove->add_option("sweep", *names, "names of sweeps")->required();
  OnRun(remove, session, [names, &session] { return Delete(*names, session); });

  AddSet(noun, session);
}

}  // namespace sae::cli
