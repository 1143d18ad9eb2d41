#include <CLI/CLI.hpp>
#include <memory>
#include <ostream>

#include "client/cli/exit_code.h"
#include "client/cli/json_view.h"
#include "client/cli/spec_file.h"
#include "client/cli/verb.h"
#include "client/cli/watcher.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {

struct Options {
  std::string file;
  std::string name;
  std::string request_id;
  bool wait = false;
  bool follow = false;
  bool dry_run = false;
};

absl::StatusOr<config::SweepSpec> Prepare(const Options& options, const World& world) {
  SAE_ASSIGN_OR_RETURN(config::SweepSpec spec, LoadSpec(options.file, world));
  if (!options.name.empty()) spec.name = options.name;
  if (const absl::Status s = config::Validate(spec); !s.ok()) return Annotate(s, options.file);
  if (const absl::Status s = ReadStoreManifest(spec, world); !s.ok())
    return Annotate(s, options.file);
  if (const absl::Status s = config::Validate(spec); !s.ok()) return Annotate(s, options.file);
  return spec;
}

absl::Status Submit(const Options& options, Session& session) {
  World& world = session.world;
  SAE_ASSIGN_OR_RETURN(const config::SweepSpec spec, Prepare(options, world));
  SAE_ASSIGN_OR_RETURN(const auto points, config::ExpandTrials(spec));
  if (options.wait || options.follow) session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  saeloom::v1::CreateSweepRequest request;
  request.set_parent("projects/default");
  *request.mutable_spec() = ToProto(spec);
  request.set_request_id(options.request_id);
  request.set_validate_only(options.dry_run);
  SAE_ASSIGN_OR_RETURN(const saeloom::v1::Sweep sweep, api->CreateSweep(request));
  const std::string name = sweep.name().empty() ? spec.name : BareName(sweep.name());
  if (session.json()) {
    if (!options.follow && !options.wait) world.out << JsonText(sweep) << '\n';
  } else if (options.dry_run) {
    world.out << "sweep " << name << ": valid, " << points.size()
              << " trials; nothing was submitted\n";
  } else {
    world.out << "sweep " << name << ": submitted, " << points.size() << " trials\n";
    if (!options.follow && !options.wait)
      world.out << "watch it with: saeloom watch " << name << '\n';
  }
  world.out.flush();
  if (options.dry_run || !(options.follow || options.wait)) return absl::OkStatus();
  WatchOptions watch;
  watch.show = session.json() && options.follow ? WatchOptions::Show::kJson
               : options.follow                 ? WatchOptions::Show::kTrials
               : session.json()                 ? WatchOptions::Show::kNothing
                                                : WatchOptions::Show::kSummary;
  SAE_ASSIGN_OR_RETURN(const WatchResult result,
                       Watch(*api, world, name, watch, session.signals.get()));
  session.exit_code = result.interrupted ? kExitInterrupted : SweepExitCode(result.sweep);
  if (session.json() && !result.interrupted)
    world.out << JsonText(result.sweep, options.follow ? -1 : 2) << '\n';
  return absl::OkStatus();
}

}  // namespace

void AddSubmit(CLI::App& app, Session& session) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("submit", "submit a sweep");
  verb->add_option("spec,-f,--file", options->file, "the sweep's YAML file")->required();
  verb->add_option("--name", options->name, "instead of the file's name");
  verb->add_option("--request-id", options->request_id,
                   "submitting twice with the same one makes one sweep");
  verb->add_flag("--wait", options->wait,
                 "until it has ended; the exit code tells how: 0, 10 or 11");
  verb->add_flag("--follow", options->follow, "the same, and show every trial as `watch` does");
  verb->add_flag("--dry-run", options->dry_run, "let the coordinator check it, but submit nothing");
  verb->footer(
      "Examples:\n  saeloom submit examples/demo.yaml\n  saeloom submit examples/demo.yaml --name "
      "demo-2 --follow\n"
      "Ctrl-C stops the waiting, never the sweep.");
  verb->callback([options, &session] { session.status = Submit(*options, session); });
}

}  // namespace sae::cli
