// `saeloom events`: a sweep's event stream as it is, for people and for programs that resume.

#include <CLI/CLI.hpp>
#include <map>
#include <memory>

#include "client/cli/event_stream.h"
#include "client/cli/event_text.h"
#include "client/cli/exit_code.h"
#include "client/cli/print.h"
#include "client/cli/verb.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {
using saeloom::v1::SweepEvent;
using WatchRequest = saeloom::v1::WatchSweepRequest;

struct EventsOptions {
  std::string sweep;
  std::int64_t after = 0;
  std::string resume;
  std::vector<std::string> trials;
  std::vector<std::string> kinds;
  int conflate_ms = 0;
  bool follow = false;
};

const std::map<std::string, WatchRequest::Kind>& Kinds() {
  static const std::map<std::string, WatchRequest::Kind> known = {
      {"lifecycle", WatchRequest::KIND_LIFECYCLE},
      {"point", WatchRequest::KIND_POINT},
      {"counts", WatchRequest::KIND_COUNTS}};
  return known;
}

WatchRequest MakeRequest(const EventsOptions& options) {
  WatchRequest request;
  request.set_name(SweepName(BareName(options.sweep)));
  request.set_after_seq(options.after);
  request.set_resume_token(options.resume);
  request.set_conflate_ms(options.conflate_ms);
  for (const std::string& t : options.trials) request.add_trials(BareName(t));
  for (const std::string& k : options.kinds) request.add_kinds(Kinds().at(k));
  return request;
}

/// Reads streams until the end: of the sweep, or, without --follow, of what there is now.
class Reader {
 public:
  Reader(const EventsOptions& options, Session& session, Api& api, std::int64_t head)
      : session_(session),
        api_(api),
        follow_(options.follow),
        head_(head),
        request_(MakeRequest(options)) {}

  absl::Status Run() {
    absl::Duration heard = session_.world.clock.SinceBoot();
    while (!done_) {
      const std::int64_t before = request_.after_seq();
      const grpc::Status end = ReadOne();
      if (done_ || end.ok()) break;
      const absl::Duration now = session_.world.clock.SinceBoot();
      if (request_.after_seq() > before) heard = now;
      if (end.error_code() != grpc::StatusCode::UNAVAILABLE || !follow_ ||
          now - heard > absl::Minutes(1)) {
        return api_.ToStatus(end);
      }
      session_.Note(absl::StrCat("connection to ", api_.address().target, " lost: trying again"));
      session_.world.clock.SleepFor(absl::Milliseconds(500));
    }
    return absl::OkStatus();
  }

 private:
  grpc::Status ReadOne() {
    EventStream<SweepEvent> stream(
        [this](grpc::ClientContext& c) { return api_.WatchSweep(c, request_); });
    for (;;) {
      auto item = stream.Next(absl::Milliseconds(100));
      if (session_.Interrupted(absl::ZeroDuration())) {
        session_.exit_code = kExitInterrupted;
        done_ = true;
        return grpc::Status::OK;
      }
      if (item.end) return *item.end;
      if (!item.message) continue;
      Take(*item.message);
      if (done_) return grpc::Status::OK;
    }
  }

  void Take(const SweepEvent& event) {
    // What follows a lost connection is after this one.
    if (event.seq() > request_.after_seq() && !event.has_heartbeat()) {
      request_.set_after_seq(event.seq());
      request_.clear_resume_token();
    }
    if (!event.has_heartbeat()) {
      Print(session_,
            session_.json() ? StreamText(session_, JsonText(event, -1)) : EventLine(event) + "\n");
    }
    if (!follow_ && (event.has_heartbeat() || event.seq() >= head_)) done_ = true;
  }

  Session& session_;
  Api& api_;
  bool follow_;
  std::int64_t head_;  ///< newest event when the command began
  WatchRequest request_;
  bool done_ = false;
};

absl::Status Events(const EventsOptions& options, Session& session) {
  session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const auto sweep, api->GetSweep(options.sweep));
  if (!options.follow && options.resume.empty() && sweep.head_seq() <= options.after)
    return absl::OkStatus();
  return Reader(options, session, *api, sweep.head_seq()).Run();
}

}  // namespace

void AddEvents(CLI::App& app, Session& session) {
  auto options = std::make_shared<EventsOptions>();
  CLI::App* verb = AddVerb(
      app, session, "events", "what happened in a sweep: one line an event, in order",
      {"% demo", "% demo --follow -o jsonl", "% demo --kind lifecycle --trial 0003",
       "% demo --after 1200 --follow --kind point --conflate 500"},
      {},
      "Without --follow it ends at the newest event. A lost connection goes on after the last "
      "event that was shown.");
  verb->add_option("sweep", options->sweep, "name of the sweep")->required();
  verb->add_flag("--follow", options->follow, "until the sweep has ended");
  verb->add_option("--after", options->after, "later than this sequence number");
  verb->add_option("--resume", options->resume, "after the event with this resume_token");
  AddRepeated(verb, "--trial", options->trials, "of this trial alone; several times");
  std::vector<std::string> kinds;
  for (const auto& [name, value] : Kinds()) kinds.push_back(name);
  verb->add_option("--kind", options->kinds,
                   "lifecycle, point (a metric) or counts; several times (lifecycle and point)")
      ->check(CLI::IsMember(kinds))
      ->allow_extra_args(false);
  verb->add_option("--conflate", options->conflate_ms,
                   "at most one point a series in so many milliseconds")
      ->check(CLI::NonNegativeNumber);
  OnRun(verb, session, [options, &session] { return Events(*options, session); });
}

}  // namespace sae::cli
