#include <CLI/CLI.hpp>
#include <cmath>
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
using saeloom::v1::Trial;
using A = Table::Align;

std::string SweepText(const saeloom::v1::Sweep& sweep, const std::vector<Trial>& trials) {
  std::string out =
      absl::StrCat("sweep   ", BareName(sweep.name()), "\nstate   ", StateText(sweep.state()),
                   "\ntrials  ", CountsText(sweep), "\nstore   ", sweep.spec().store(), "\n\n");
  Table table({{"TRIAL"},
               {"PARAMETERS"},
               {"STATE"},
               {"ATTEMPT", A::kRight},
               {"STEP", A::kRight},
               {"FVU", A::kRight},
               {"L0", A::kRight},
               {"DEAD", A::kRight},
               {"REASON"}});
  for (const Trial& t : trials) {
    table.Add({BareName(t.name()), ParameterText(t), StateText(t.state()),
               absl::StrCat(t.attempt()),
               t.total_steps() > 0 ? absl::StrCat(t.step(), "/", t.total_steps())
                                   : absl::StrCat(t.step()),
               Number(MetricOf(t, "heldout.fvu")), Number(MetricOf(t, "heldout.l0")),
               Percent(MetricOf(t, "heldout.dead_fraction")), t.reason()});
  }
  return absl::StrCat(out, table.Text(),
                      "\nFVU, L0 and DEAD are of the newest held-out evaluation\n");
}

std::string AttemptsText(const Trial& trial) {
  if (trial.attempts().empty()) return "";
  Table table({{"ATTEMPT", A::kRight},
               {"WORKER"},
               {"OUTCOME"},
               {"FROM STEP", A::kRight},
               {"TOOK", A::kRight},
               {"REASON"}});
  for (const auto& a : trial.attempts()) {
    std::string took = "-";
    if (a.has_start_time() && a.has_end_time()) {
      using google::protobuf::util::TimeUtil;
      took = Span(absl::Milliseconds(TimeUtil::TimestampToMilliseconds(a.end_time()) -
                                     TimeUtil::TimestampToMilliseconds(a.start_time())));
    }
    std::string reason = a.reason();
    if (a.failure_class() != saeloom::v1::FAILURE_CLASS_UNSPECIFIED) {
      reason = absl::StrCat(
          EnumName(saeloom::v1::FailureClass_descriptor()->FindValueByNumber(a.failure_class())),
          reason.empty() ? "" : ": ", reason);
    }
    table.Add({absl::StrCat(a.number()), a.worker(), a.outcome(), absl::StrCat(a.from_step()), took,
               reason});
  }
  return "\n" + table.Text();
}

std::string TrialText(const std::string& sweep, const Trial& t) {
  std::string out = absl::StrCat("trial       ", sweep, "/", BareName(t.name()), "\nparameters  ",
                                 ParameterText(t), "\nstate       ", StateText(t.state()),
                                 t.reason().empty() ? "" : absl::StrCat(": ", t.reason()),
                                 "\nstep        ", t.step());
  if (t.total_steps() > 0) absl::StrAppend(&out, "/", t.total_steps());
  absl::StrAppend(&out, "  ", Count(static_cast<double>(t.tokens())), " tokens\ndirectory   ",
                  t.directory().empty() ? "-" : t.directory(), "\ncheckpoint  ",
                  t.checkpoint().empty() ? "-" : t.checkpoint(), "\n", AttemptsText(t));
  if (!t.metrics().empty()) {
    Table table({{"METRIC"}, {"NEWEST", A::kRight}});
    const std::map<std::string, double> sorted(t.metrics().begin(), t.metrics().end());
    for (const auto& [name, value] : sorted) table.Add({name, Number(value, 6)});
    absl::StrAppend(&out, "\n", table.Text());
  }
  if (!t.log_tail().empty()) {
    out += "\nlast lines of the log\n";
    for (const std::string& line : t.log_tail()) absl::StrAppend(&out, "  | ", line, "\n");
  }
  return out;
}

absl::Status Get(const std::string& name, Session& session) {
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  std::ostream& out = session.world.out;
  if (ParseTrialReference(name).ok()) {
    SAE_ASSIGN_OR_RETURN(const TrialReference ref, ParseTrialReference(name));
    SAE_ASSIGN_OR_RETURN(const Trial trial, api->GetTrial(ref.sweep, ref.trial));
    out << (session.json() ? JsonText(trial) + "\n" : TrialText(ref.sweep, trial)) << std::flush;
    return absl::OkStatus();
  }
  SAE_ASSIGN_OR_RETURN(const auto sweep, api->GetSweep(name));
  SAE_ASSIGN_OR_RETURN(const auto trials, api->ListTrials(name));
  if (session.json()) {
    out << "{\"sweep\": " << JsonText(sweep) << ",\n\"trials\": " << JsonArrayText(trials) << "}"
        << std::endl;
  } else {
    out << SweepText(sweep, trials) << std::flush;
  }
  return absl::OkStatus();
}

}  // namespace

void AddGet(CLI::App& app, Session& session) {
  auto name = std::make_shared<std::string>();
  CLI::App* verb = app.add_subcommand(
      "get", "one sweep and its trials, or one trial: attempts, folder, checkpoint, log");
  verb->add_option("name", *name, "SWEEP or SWEEP/TRIAL")->required();
  verb->footer("Examples:\n  saeloom get demo\n  saeloom get demo/0003");
  verb->callback([name, &session] { session.status = Get(*name, session); });
}

}  // namespace sae::cli
