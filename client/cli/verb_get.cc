#include <CLI/CLI.hpp>
#include <cmath>
#include <map>
#include <memory>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"
#include <google/protobuf/util/time_util.h>

#include "client/cli/kinds.h"
#include "client/cli/names.h"
#include "client/cli/trial_view.h"
#include "client/cli/verb.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {
using saeloom::v1::Trial;
using A = Table::Align;

void Line(std::string& out, const char* title, const std::string& text) {
  if (!text.empty()) absl::StrAppend(&out, absl::StrFormat("%-10s", title), text, "\n");
}

std::string SweepText(const Session& session, const saeloom::v1::Sweep& sweep,
                      const std::vector<Trial>& trials) {
  const saeloom::v1::SweepSpec& spec = sweep.spec();
  const std::map<std::string, std::string> labels(spec.labels().begin(), spec.labels().end());
  std::string out;
  Line(out, "sweep", BareName(sweep.name()));
  Line(out, "state", StateText(sweep.state()));
  Line(out, "trials", CountsText(sweep));
  Line(out, "store", spec.store());
  Line(out, "owner", sweep.owner());
  Line(out, "queue", spec.queue());
  if (spec.priority() > 0) Line(out, "priority", absl::StrCat(spec.priority()));
  if (spec.max_concurrent() > 0) Line(out, "at once", absl::StrCat(spec.max_concurrent()));
  Line(out, "labels", absl::StrJoin(labels, ",", absl::PairFormatter("=")));
  Line(out, "from", ShortName(sweep.forked_from()));
  Line(out, "best", BareName(sweep.best_trial()));
  for (const std::string& warning : sweep.warnings()) Line(out, "warning", warning);
  const std::string table =
      trials.empty() ? "no trials\n" : TableText(session, TrialKind(), trials);
  return absl::StrCat(out, "\n", table,
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

absl::StatusOr<std::string> Describe(Session& session, Api& api, const std::string& name) {
  if (ParseTrialReference(name).ok()) {
    SAE_ASSIGN_OR_RETURN(const TrialReference ref, ParseTrialReference(name));
    SAE_ASSIGN_OR_RETURN(const Trial trial, api.GetTrial(ref.sweep, ref.trial));
    if (session.json()) return MachineText(session, JsonText(trial));
    return session.names() ? ShortName(trial.name()) + "\n" : TrialText(ref.sweep, trial);
  }
  SAE_ASSIGN_OR_RETURN(const auto sweep, api.GetSweep(name));
  if (session.names()) return BareName(sweep.name()) + "\n";
  SAE_ASSIGN_OR_RETURN(const auto trials, api.ListTrials(name));
  if (!session.json()) return SweepText(session, sweep, trials);
  return MachineText(session, absl::StrCat("{\"sweep\": ", JsonText(sweep),
                                           ",\n\"trials\": ", JsonArrayText(trials), "}"));
}

}  // namespace

void AddGet(CLI::App& app, Session& session, const std::string& name) {
  auto what = std::make_shared<std::string>();
  const bool alone = app.get_parent() == nullptr;
  const bool trials = !alone && app.get_name() == "trial";
  std::vector<std::string> examples = {"% demo/0003", "% demo/0003 -o yaml"};
  if (!trials) examples.insert(examples.begin(), {"% demo", "% demo --watch"});
  CLI::App* verb =
      AddVerb(app, session, name,
              trials ? "all that is known of one trial: attempts, folder, checkpoint, log"
                     : "one sweep and its trials, or one trial: attempts, folder, checkpoint, log",
              examples, {.watch = true, .names = true});
  verb->add_option(trials ? "trial" : "sweep", *what,
                   trials ? "SWEEP/TRIAL" : "SWEEP or SWEEP/TRIAL")
      ->required();
  OnRun(verb, session, [what, trials, &session]() -> absl::Status {
    if (trials) {
      SAE_RETURN_IF_ERROR(ParseTrialReference(*what).status());
    }
    return Show(session, [what, &session](Api& api) { return Describe(session, api, *what); });
  });
}

}  // namespace sae::cli
