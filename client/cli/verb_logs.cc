#include <CLI/CLI.hpp>
#include <map>
#include <memory>
#include <ostream>

#include "client/cli/event_stream.h"
#include "client/cli/exit_code.h"
#include "client/cli/json_view.h"
#include "client/cli/verb.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {

struct Options {
  std::string trial;
  std::vector<int> ranks;
  int attempt = 0;
  int lines = 0;
  bool follow = false;
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

absl::Status Run(const Options& options, Session& session) {
  SAE_ASSIGN_OR_RETURN(const TrialReference ref, ParseTrialReference(options.trial));
  session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  saeloom::v1::TailLogsRequest request;
  request.set_trial(TrialName(ref.sweep, ref.trial));
  request.set_attempt(options.attempt);
  request.set_lines(options.lines);
  request.set_follow(options.follow);
  for (const int r : options.ranks) request.add_ranks(r);
  EventStream<saeloom::v1::LogChunk> stream(
      [&](grpc::ClientContext& c) { return api->TailLogs(c, request); });
  LinePrinter printer(session.world.out, options.ranks.size() != 1);
  for (;;) {
    auto item = stream.Next(absl::Milliseconds(100));
    if (session.signals && session.signals->Wait(absl::ZeroDuration())) {
      session.exit_code = kExitInterrupted;
      return absl::OkStatus();
    }
    if (item.message && session.json())
      session.world.out << JsonText(*item.message, -1) << std::endl;
    if (item.message && !session.json()) printer.Add(item.message->rank(), item.message->text());
    if (!item.end) continue;
    if (!session.json()) printer.Finish();
    return api->ToStatus(*item.end);
  }
}

}  // namespace

void AddLogs(CLI::App& app, Session& session) {
  auto options = std::make_shared<Options>();
  CLI::App* verb = app.add_subcommand("logs", "the log of a trial's ranks");
  verb->add_option("trial", options->trial, "SWEEP/TRIAL")->required();
  verb->add_option("--rank", options->ranks, "this rank only; may be given several times");
  verb->add_option("--attempt", options->attempt, "this attempt instead of the newest");
  verb->add_option("--lines", options->lines, "so many last lines of each rank (20)");
  verb->add_flag("--follow", options->follow, "go on as lines are written");
  verb->footer("Examples:\n  saeloom logs demo/0003\n  saeloom logs demo/0003 --rank 0 --follow");
  verb->callback([options, &session] { session.status = Run(*options, session); });
}

}  // namespace sae::cli
