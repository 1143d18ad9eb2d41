#include "client/cli/watcher.h"

#include <algorithm>

#include "client/cli/event_stream.h"
#include "client/cli/exit_code.h"
#include "client/cli/json_view.h"
#include "client/cli/screen.h"
#include "client/cli/yaml_text.h"
#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {
using saeloom::v1::Sweep;
using saeloom::v1::SweepEvent;
using Stream = EventStream<SweepEvent>;

constexpr absl::Duration kRedrawEvery = absl::Milliseconds(200);
constexpr absl::Duration kPollEvents = absl::Milliseconds(100);

class Watcher {
 public:
  Watcher(Api& api, World& world, std::string sweep, const WatchOptions& options,
          SignalWatcher* signals)
      : api_(api),
        world_(world),
        sweep_(std::move(sweep)),
        options_(options),
        model_(sweep_, {options.line_every, !world.terminal}),
        screen_(world.out, world.terminal && options.show != WatchOptions::Show::kJson &&
                               options.show != WatchOptions::Show::kNothing),
        signals_(signals) {}

  absl::StatusOr<WatchResult> Run() {
    SAE_ASSIGN_OR_RETURN(const Sweep sweep, api_.GetSweep(sweep_));
    SAE_ASSIGN_OR_RETURN(const auto trials, api_.ListTrials(sweep_));
    model_.SetTrials(trials, sweep.head_seq());
    last_contact_ = world_.clock.SinceBoot();
    absl::Duration wait = absl::Milliseconds(200);
    for (;;) {
      const std::int64_t before = model_.last_seq();
      const grpc::Status end = Follow();
      if (interrupted_) return Interrupted();
      if (end.ok()) break;
      if (end.error_code() != grpc::StatusCode::UNAVAILABLE) return api_.ToStatus(end);
      if (model_.last_seq() > before) wait = absl::Milliseconds(200);
      if (world_.clock.SinceBoot() - last_contact_ > options_.reconnect_for)
        return api_.ToStatus(end);
      Say({absl::StrCat("connection to ", api_.address().target, " lost: trying again")},
          !said_lost_);
      said_lost_ = true;
      world_.clock.SleepFor(wait);
      wait = std::min(wait * 2, absl::Seconds(2));
    }
    Draw(true);
    SAE_ASSIGN_OR_RETURN(Sweep last, api_.GetSweep(sweep_));
    return WatchResult{false, std::move(last)};
  }

 private:
  /// Reads one connection to its end.
  grpc::Status Follow() {
    Stream stream(
        [&](grpc::ClientContext& c) { return api_.WatchSweep(c, sweep_, model_.last_seq()); });
    for (;;) {
      Stream::Item item = stream.Next(kPollEvents);
      if (signals_ && signals_->Wait(absl::ZeroDuration())) interrupted_ = true;
      if (interrupted_) return grpc::Status::OK;
      if (item.end) return *item.end;
      if (item.message) Take(*item.message);
      Draw(false);
    }
  }

  void Take(const SweepEvent& event) {
    last_contact_ = world_.clock.SinceBoot();
    said_lost_ = false;
    const std::vector<std::string> lines = model_.Apply(event, world_.clock.Now());
    if (options_.show == WatchOptions::Show::kJson) {
      if (!event.has_heartbeat()) {
        world_.out << (options_.yaml ? "---\n" + YamlFromJson(JsonText(event, -1))
                                     : JsonText(event, -1) + "\n")
                   << std::flush;
      }
    } else if (options_.show == WatchOptions::Show::kNothing) {
      if (event.has_notice()) Say(lines, true);
    } else if (options_.show == WatchOptions::Show::kTrials || event.has_notice() ||
               event.has_sweep_change()) {
      Say(lines, true);
    }
  }

  void Say(const std::vector<std::string>& lines, bool really) {
    if (!really) return;
    if (options_.show == WatchOptions::Show::kJson ||
        options_.show == WatchOptions::Show::kNothing) {
      for (const std::string& line : lines) world_.err << line << std::endl;
    } else {
      screen_.Print(lines);
    }
  }

  void Draw(bool now) {
    if (!screen_.terminal()) {
      DrawPlainSummary(now);
      return;
    }
    const absl::Duration at = world_.clock.SinceBoot();
    if (!now && at - last_draw_ < kRedrawEvery) return;
    last_draw_ = at;
    const int width = world_.columns ? world_.columns() : 0;
    if (options_.show == WatchOptions::Show::kSummary) {
      screen_.Draw({model_.Summary()});
    } else {
      screen_.Draw(model_.Frame(width, world_.rows ? world_.rows() : 1000));
    }
  }

  /// `submit --wait` without a terminal: one line each half minute, and whenever the counts change.
  void DrawPlainSummary(bool now) {
    if (options_.show != WatchOptions::Show::kSummary) return;
    const std::string text = model_.Summary();
    const std::string counts = text.substr(0, text.find("  left"));
    const absl::Duration at = world_.clock.SinceBoot();
    if (!now && counts == last_counts_ && at - last_draw_ < absl::Seconds(30)) return;
    if (now && counts == last_counts_) return;
    last_draw_ = at;
    last_counts_ = counts;
    screen_.Print({text});
  }

  absl::StatusOr<WatchResult> Interrupted() {
    Draw(true);
    world_.err << "stopped watching; the sweep goes on: saeloom watch " << sweep_ << std::endl;
    WatchResult result;
    result.interrupted = true;
    return result;
  }

  Api& api_;
  World& world_;
  std::string sweep_;
  WatchOptions options_;
  WatchModel model_;
  Screen screen_;
  SignalWatcher* signals_;
  bool interrupted_ = false;
  bool said_lost_ = false;
  absl::Duration last_contact_;
  absl::Duration last_draw_ = -absl::InfiniteDuration();
  std::string last_counts_;
};

}  // namespace

absl::StatusOr<WatchResult> Watch(Api& api, World& world, const std::string& sweep,
                                  const WatchOptions& options, SignalWatcher* signals) {
  return Watcher(api, world, BareName(sweep), options, signals).Run();
}

int SweepExitCode(const Sweep& sweep) {
  if (sweep.state() == Sweep::STATE_SUCCEEDED) return 0;
  if (sweep.state() == Sweep::STATE_CANCELLED) return kExitSweepFailed;
  std::int64_t good = 0;
  for (const auto& [state, count] : sweep.trials()) {
    if (state == "SUCCEEDED" || state == "STOPPED_EARLY") good += count;
  }
  return good > 0 ? kExitTrialsFailed : kExitSweepFailed;
}

}  // namespace sae::cli
