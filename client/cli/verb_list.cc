#include <CLI/CLI.hpp>
#include <memory>
#include <ostream>

#include <google/protobuf/util/time_util.h>

#include "client/cli/json_view.h"
#include "client/cli/table.h"
#include "client/cli/trial_view.h"
#include "client/cli/verb.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {

absl::Duration Age(const google::protobuf::Timestamp& since, absl::Time now) {
  return now -
         absl::FromUnixMillis(google::protobuf::util::TimeUtil::TimestampToMilliseconds(since));
}

absl::Status ListAll(Session& session) {
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const auto sweeps, api->ListSweeps());
  std::ostream& out = session.world.out;
  if (session.json()) {
    out << JsonArrayText(sweeps) << std::endl;
    return absl::OkStatus();
  }
  if (sweeps.empty()) {
    out << "no sweeps yet: saeloom submit SPEC.yaml" << std::endl;
    return absl::OkStatus();
  }
  Table table({{"SWEEP"},
               {"STATE"},
               {"TRIALS"},
               {"AGE", Table::Align::kRight},
               {"TOOK", Table::Align::kRight}});
  for (const auto& s : sweeps) {
    const absl::Time now = session.world.clock.Now();
    table.Add({BareName(s.name()), StateText(s.state()), CountsText(s),
               s.has_create_time() ? Span(Age(s.create_time(), now)) : "-",
               s.has_end_time() && s.has_create_time()
                   ? Span(Age(s.create_time(), now) - Age(s.end_time(), now))
                   : "-"});
  }
  out << table.Text() << std::flush;
  return absl::OkStatus();
}

absl::Status ListWorkers(Session& session) {
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const auto workers, api->ListWorkers());
  std::ostream& out = session.world.out;
  if (session.json()) {
    out << JsonArrayText(workers.workers()) << std::endl;
    return absl::OkStatus();
  }
  if (workers.workers().empty()) {
    out << "no workers have registered: start saeloom-worker, or use saeloom up" << std::endl;
    return absl::OkStatus();
  }
  Table table({{"WORKER"},
               {"STATE"},
               {"SLOTS", Table::Align::kRight},
               {"FREE", Table::Align::kRight},
               {"HEARD", Table::Align::kRight},
               {"METRICS"},
               {"RUNS"}});
  for (const auto& w : workers.workers()) {
    table.Add({w.id(), w.state(), absl::StrCat(w.slots()), absl::StrCat(w.free_slots()),
               w.has_last_heartbeat()
                   ? Span(std::max(absl::ZeroDuration(),
                                   Age(w.last_heartbeat(), session.world.clock.Now()))) +
                         " ago"
                   : "-",
               w.address(), w.runs_id()});
  }
  out << table.Text() << std::flush;
  return absl::OkStatus();
}

}  // namespace

void AddList(CLI::App& app, Session& session) {
  CLI::App* verb = app.add_subcommand("list", "all sweeps");
  verb->footer("Example:\n  saeloom list -o json | jq '.[].name'");
  verb->callback([&session] { session.status = ListAll(session); });
}

void AddWorkers(CLI::App& app, Session& session) {
  CLI::App* verb =
      app.add_subcommand("workers", "the workers that have registered, and their slots");
  verb->footer("Example:\n  saeloom workers");
  verb->callback([&session] { session.status = ListWorkers(session); });
}

}  // namespace sae::cli
