#pragma once
// A core with one worker whose trials follow given curves: for tests of searches. Deterministic;
// not thread-safe.

#include <cmath>
#include <functional>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "server/testing/core_fixture.h"

namespace sae::server::testing {

class SearchRig : public CoreTest {
 protected:
  /// Values of an evaluation of a trial at a step.
  using Curve = std::function<std::map<std::string, double>(int trial, std::int64_t step)>;

  /// 64 steps of 1000 tokens, rungs at 4000, 16000 and 64000, one evaluation each 4 steps.
  static config::SweepSpec AshaSpec(const std::string& mode, std::int64_t trials) {
    config::SweepSpec spec = MakeSpec("s", 1);
    spec.trial.train.tokens = 64000;
    config::Parameter seed;
    seed.path = "train.seed";
    seed.kind = config::Parameter::Kind::kIntUniform;
    seed.min = 0;
    seed.max = 1e6;
    spec.parameters = {{seed}};
    spec.search = "asha";
    spec.asha.mode = mode;
    spec.asha.max_rungs = 3;
    spec.max_trials = trials;
    return spec;
  }
  /// Trial i tends to (i * 37 % 101) / 101, from above.
  static std::map<std::string, double> Value(int trial, std::int64_t step) {
    return {{"heldout.fvu", trial * 37 % 101 / 101.0 + 1.0 / static_cast<double>(step + 1)},
            {"heldout.l0", 8.0}};
  }

  struct Run {
    AttemptKey key;
    std::int64_t step = 0;
    std::int64_t lines = 0;
    bool stop = false;
    bool running = true;
  };

  void StartWorker(int slots) { Register(Registration("w", slots)); }

  /// One step of every running trial, or its end where it was told to stop.
  void Step() {
    clock_.Advance(absl::Milliseconds(100));
    ASSERT_TRUE(Beat("w").ok());
    TakeCommands();
    const std::vector<std::pair<std::string, int>> keys = [&] {
      std::vector<std::pair<std::string, int>> out;
      for (const auto& [id, run] : runs_)
        if (run.running) out.push_back(id);
      return out;
    }();
    for (const auto& id : keys) StepOne(runs_.at(id));
    core_->Tick();
  }
  /// Until the sweep has ended; fails after `most` steps.
  void RunToEnd(int most) {
    for (int i = 0; i < most; ++i) {
      ASSERT_NO_FATAL_FAILURE(Step());
      if (HasEnded(Sweep().state)) return;
    }
    FAIL() << "after " << most << " steps: " << core_->state().DebugString();
  }
  /// The coordinator dies and comes back; the worker re-registers with what runs.
  void RestartCoordinator() {
    Restart();
    RegisterRequest request = Registration("w", slots_);
    for (const auto& [id, run] : runs_)
      if (run.running) request.attempts.push_back({run.key, true});
    for (const AcknowledgedAttempt& a : Register(request).attempts) {
      Run& run = runs_.at({a.key.trial, a.key.attempt});
      run.lines = a.seq;
      run.running = a.wanted;
    }
  }
  std::vector<LogEvent> Log() { return core_->Read("s", 0, 1'000'000).value(); }
  std::int64_t StepsOf(int trial) const {
    const auto it = furthest_.find(trial);
    return it == furthest_.end() ? 0 : it->second;
  }

  int slots_ = 4;
  Curve curve_ = &Value;
  std::function<int(int trial, std::int64_t step)> fail_;  ///< exit code of one that dies; 0 = no
  std::map<std::pair<std::string, int>, Run> runs_;
  std::map<int, std::int64_t> furthest_;
  std::map<std::string, std::int64_t> saved_;

 private:
  void TakeCommands() {
    for (const Command& command : core_->CommandsFor("w")) {
      if (const auto* start = std::get_if<StartCommand>(&command)) {
        const auto [it, added] =
            runs_.try_emplace({start->key.trial, start->key.attempt}, Run{start->key});
        if (!added) continue;
        it->second.step = saved_[start->key.trial];
        config::Event event = EventOf(it->second, config::EventKind::kStarted);
        event.from_step = it->second.step;
        Send(it->second, {event});
      } else if (const auto* stop = std::get_if<StopCommand>(&command)) {
        const auto it = runs_.find({stop->key.trial, stop->key.attempt});
        if (it != runs_.end()) it->second.stop = true;
      }
    }
  }
  static config::Event EventOf(const Run& run, config::EventKind kind) {
    config::Event event;
    event.time = 1.7e9;
    event.kind = kind;
    event.step = run.step;
    event.tokens = run.step * 1000;
    return event;
  }
  void Send(Run& run, std::vector<config::Event> events) {
    std::vector<std::string> lines;
    std::int64_t seq = run.lines;
    for (config::Event& event : events) {
      event.seq = ++seq;
      lines.push_back(config::ToJsonLine(event));
    }
    const auto acknowledged = Report("w", run.key, run.lines + 1, lines);
    if (acknowledged.ok()) run.lines = *acknowledged;
  }
  void End(Run& run, int exit_code, const std::string& verdict) {
    const AttemptStatus status = Ended(run.key.trial, run.key.attempt, exit_code, verdict);
    HeartbeatRequest request;
    request.sender = SenderOf("w");
    request.heartbeat = ++heartbeats_;
    request.statuses = {status};
    const auto reply = core_->Heartbeat(request);
    run.running = !reply.ok() || reply->status_acks.empty();
    core_->Tick();
  }
  void StepOne(Run& run) {
    const int index = TrialIndexOf(run.key.trial);
    if (run.stop) {
      saved_[run.key.trial] = run.step;
      config::Event saved = EventOf(run, config::EventKind::kCheckpoint);
      saved.checkpoint = "step-" + std::to_string(run.step);
      Send(run, {saved, EventOf(run, config::EventKind::kYielded)});
      return End(run, 75, "yielded");
    }
    ++run.step;
    furthest_[index] = std::max(furthest_[index], run.step);
    if (const int code = fail_ ? fail_(index, run.step) : 0; code != 0)
      return End(run, code, "failed");
    std::vector<config::Event> events;
    if (run.step % 4 == 0) {
      events.push_back(EventOf(run, config::EventKind::kEvaluation));
      events.back().values = curve_(index, run.step);
    }
    if (run.step >= 64) events.push_back(EventOf(run, config::EventKind::kFinished));
    if (!events.empty()) Send(run, events);
    if (run.step >= 64) End(run, 0, "finished");
  }
};

}  // namespace sae::server::testing
