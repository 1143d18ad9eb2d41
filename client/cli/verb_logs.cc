#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <ostream>

#include "client/cli/event_stream.h"
#include "client/cli/exit_code.h"
#include "client/cli/names.h"
#include "client/cli/print.h"
#include "client/cli/verb.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {

struct LogsOptions {
  std::string trial;
  std::vector<int> ranks;
  int attempt = 0;
  int lines = 0;
  bool follow = false;
  std::string since;
  std::string grep;
};

/// Puts "[rank R] " in front of each line; a line may come in several chunks.
class LinePrinter {
 public:
  LinePrinter(std::ostream& out, bool prefix) : out_(out), prefix_(prefix) {}
  void Add(int rank, const std::string& text) {
    if (!prefix_) {
      out_ << text << std::flush;
      return;
    }
    std::string& pending = pending_[rank];
    pending += text;
    for (std::size_t end; (end = pending.find('\n')) != std::string::npos;
         pending.erase(0, end + 1)) {
      out_ << "[rank " << rank << "] " << pending.substr(0, end) << '\n';
    }
    out_.flush();
  }
  void Finish() {
    for (const auto& [rank, text] : pending_) {
      if (!text.empty()) out_ << "[rank " << rank << "] " << text << std::endl;
    }
  }

 private:
  std::ostream& out_;
  bool prefix_;
  std::map<int, std::string> pending_;
};

absl::StatusOr<absl::Time> ParseSince(const std::string& text, absl::Time now) {
  absl::Duration ago;
  if (absl::ParseDuration(text, &ago) && ago >= absl::ZeroDuration()) return now - ago;
  absl::Time time;
  std::string error;
  if (absl::ParseTime(absl::RFC3339_full, text, &time, &error)) return time;
  return absl::InvalidArgumentError(absl::StrCat(
      "--since: '", text, "' is neither a span as 10m nor a time as 2026-01-31T08:00:00Z"));
}

absl::Status Run(const LogsOptions& options, Session& session) {
  SAE_ASSIGN_OR_RETURN(const TrialReference ref, ParseTrialReference(options.trial));
  session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  saeloom::v1::TailLogsRequest request;
  request.set_trial(TrialName(ref.sweep, ref.trial));
  request.set_attempt(options.attempt);
  request.set_lines(options.lines);
  request.set_follow(options.follow);
  for (const int r : options.ranks) request.add_ranks(r);
  request.set_grep(options.grep);
  if (!options.since.empty()) {
    SAE_ASSIGN_OR_RETURN(const absl::Time since,
                         ParseSince(options.since, session.world.clock.Now()));
    request.mutable_since()->set_seconds(absl::ToUnixSeconds(since));
  }
  EventStream<saeloom::v1::LogChunk> stream(
      [&](grpc::ClientContext& c) { return api->TailLogs(c, request); });
  LinePrinter printer(session.world.out, options.ranks.size() != 1);
  for (;;) {
    auto item = stream.Next(absl::Milliseconds(100));
    if (session.Interrupted(absl::ZeroDuration())) {
      session.exit_code = kExitInterrupted;
      return absl::OkStatus();
    }
    if (item.message && session.json())
      Print(session, StreamText(session, JsonText(*item.message, -1)));
    if (item.message && !session.json()) printer.Add(item.message->rank(), item.message->text());
    if (!item.end) continue;
    if (!session.json()) printer.Finish();
    return api->ToStatus(*item.end);
  }
}

}  // namespace

void AddLogs(CLI::App& app, Session& session) {
  auto options = std::make_shared<LogsOptions>();
  CLI::App* verb =
      AddVerb(app, session, "logs", "the log of a trial's ranks",
              {"% demo/0003", "% demo/0003 --rank 0 --follow",
               "% demo/0003 --since 10m --grep loss", "% demo/0003 --attempt 1 --lines 100"});
  verb->add_option("trial", options->trial, "SWEEP/TRIAL")->required();
  verb->add_option("--rank", options->ranks, "this rank only; may be given several times")
      ->allow_extra_args(false);
  verb->add_option("--attempt", options->attempt, "this attempt instead of the newest");
  verb->add_option("--lines", options->lines, "so many last lines of each rank (20)");
  verb->add_flag("--follow", options->follow, "go on as lines are written");
  verb->add_option("--since", options->since,
                   "only lines written since then: 10m ago, or a time as 2026-01-31T08:00:00Z");
  verb->add_option("--grep", options->grep, "only lines that match this RE2 expression");
  OnRun(verb, session, [options, &session] { return Run(*options, session); });
}

}  // namespace sae::cli
