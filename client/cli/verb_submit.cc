#include <CLI/CLI.hpp>
#include <memory>

#include "client/cli/exit_code.h"
#include "client/cli/names.h"
#include "client/cli/print.h"
#include "client/cli/spec_file.h"
#include "client/cli/verb.h"
#include "client/cli/watcher.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {

struct SubmitOptions {
  std::string file;
  std::string name;
  std::string queue;
  std::optional<std::int64_t> priority;
  std::vector<std::string> labels;
  bool follow = false;
  bool dry_run = false;
};

absl::StatusOr<config::SweepSpec> Prepare(const SubmitOptions& options, const World& world) {
  SAE_ASSIGN_OR_RETURN(config::SweepSpec spec, LoadSpec(options.file, world));
  if (!options.name.empty()) spec.name = options.name;
  if (const absl::Status s = config::Validate(spec); !s.ok()) return Annotate(s, options.file);
  if (const absl::Status s = ReadStoreManifest(spec, world); !s.ok())
    return Annotate(s, options.file);
  if (const absl::Status s = config::Validate(spec); !s.ok()) return Annotate(s, options.file);
  return spec;
}

absl::StatusOr<saeloom::v1::CreateSweepRequest> MakeRequest(const SubmitOptions& options,
                                                            const config::SweepSpec& spec) {
  saeloom::v1::CreateSweepRequest request;
  request.set_parent("projects/default");
  *request.mutable_spec() = ToProto(spec);
  request.set_validate_only(options.dry_run);
  SAE_ASSIGN_OR_RETURN(const auto labels, ParsePairs(options.labels, "--label"));
  for (const auto& [key, value] : labels) (*request.mutable_spec()->mutable_labels())[key] = value;
  if (!options.queue.empty()) request.mutable_spec()->set_queue(options.queue);
  if (options.priority) request.mutable_spec()->set_priority(*options.priority);
  return request;
}

void PrintSubmitted(const SubmitOptions& options, const saeloom::v1::Sweep& sweep,
                    const std::string& name, std::size_t trials, bool waits, Session& session) {
  if (session.names()) {
    Print(session, name + "\n");
  } else if (session.json()) {
    if (!waits) Print(session, MachineText(session, JsonText(sweep)));
  } else if (options.dry_run) {
    Print(session,
          absl::StrCat("sweep ", name, ": valid, ", trials, " trials; nothing was submitted\n"));
  } else if (!session.quiet) {
    Print(session, absl::StrCat("sweep ", name, ": submitted, ", trials, " trials\n"));
    if (!waits) Print(session, absl::StrCat("watch it with: saeloom watch ", name, "\n"));
  }
}

absl::Status FollowIt(const SubmitOptions& options, const std::string& name, Api& api,
                      Session& session) {
  WatchOptions watch;
  watch.yaml = session.output == "yaml";
  watch.show = session.json() && options.follow                     ? WatchOptions::Show::kJson
               : session.names() || session.quiet || session.json() ? WatchOptions::Show::kNothing
               : options.follow                                     ? WatchOptions::Show::kTrials
                                                                    : WatchOptions::Show::kSummary;
  SAE_ASSIGN_OR_RETURN(const WatchResult result,
                       Watch(api, session.world, name, watch, session.signals.get()));
  session.exit_code = result.interrupted ? kExitInterrupted : SweepExitCode(result.sweep);
  if (session.json() && !result.interrupted) {
    Print(session, options.follow ? StreamText(session, JsonText(result.sweep, -1))
                                  : MachineText(session, JsonText(result.sweep)));
  }
  return absl::OkStatus();
}

absl::Status Submit(const SubmitOptions& options, Session& session) {
  SAE_ASSIGN_OR_RETURN(const config::SweepSpec spec, Prepare(options, session.world));
  SAE_ASSIGN_OR_RETURN(const std::size_t trials, config::CountTrials(spec));
  SAE_ASSIGN_OR_RETURN(const auto request, MakeRequest(options, spec));
  const bool waits = !options.dry_run && (session.wait || options.follow);
  if (waits) session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(
      const saeloom::v1::Sweep sweep,
      api->Mutate(&saeloom::v1::SweepService::StubInterface::CreateSweep, request));
  const std::string name = sweep.name().empty() ? spec.name : BareName(sweep.name());
  PrintSubmitted(options, sweep, name, trials, waits, session);
  return waits ? FollowIt(options, name, *api, session) : absl::OkStatus();
}

}  // namespace

void AddSubmit(CLI::App& app, Session& session) {
  auto options = std::make_shared<SubmitOptions>();
  CLI::App* verb =
      AddVerb(app, session, "submit", "submit a sweep",
              {"% examples/demo.yaml", "% examples/demo.yaml --name demo-2 --follow",
               "% -f examples/demo.yaml --label model=gpt2 --queue research --priority 50",
               "% examples/demo.yaml --dry-run", "% examples/demo.yaml --wait -o json"},
              {.change = true, .names = true}, "Ctrl-C stops the waiting, never the sweep.");
  verb->add_option("spec,-f,--file", options->file, "the sweep's YAML file")->required();
  verb->add_option("--name", options->name, "instead of the file's name");
  AddRepeated(verb, "--label", options->labels, "KEY=VALUE, beside the file's; several times");
  verb->add_option("--priority", options->priority, "0 to 100, higher runs first");
  verb->add_option("--queue", options->queue, "instead of the file's queue");
  verb->add_flag("--wait", session.wait,
                 "until it has ended; the exit code tells how: 0, 10 or 11");
  verb->add_flag("--follow", options->follow, "the same, and show every trial as `watch` does");
  verb->add_flag("--dry-run", options->dry_run, "let the coordinator check it, but submit nothing");
  OnRun(verb, session, [options, &session] { return Submit(*options, session); });
}

}  // namespace sae::cli
