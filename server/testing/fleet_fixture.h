#pragma once
// Workers that take part in gangs over several, and what the core tells them: for tests.

#include <string>
#include <vector>

#include "server/testing/core_fixture.h"

namespace sae::server::testing {

class FleetTest : public CoreTest {
 protected:
  FleetTest() {
    options_.entropy = [this] { return random_.Next(); };
    Restart();
  }
  /// As Registration, of a worker that others can reach.
  RegisterRequest Peer(const std::string& id, int slots, const std::string& incarnation = "1",
                       const std::string& rack = "") {
    RegisterRequest request = Registration(id, slots, "runs-a", incarnation);
    request.peer_address = id + ":7000";
    request.mpi_host = id + ".local";
    request.rack = rack;
    return request;
  }
  /// As MakeSpec, of a width that three and six divide too.
  static config::SweepSpec WideSpec(const std::string& name, int trials, int ranks) {
    config::SweepSpec spec = MakeSpec(name, trials, ranks);
    spec.trial.sae.latents = 1536;
    return spec;
  }
  /// One trial of six ranks over "a" (4 slots) and "b" (2 slots): "a" is the head.
  void StartGang() {
    Create(WideSpec("s", 1, 6));
    Register(Peer("a", 4));
    Register(Peer("b", 2));
  }
  AttemptStatus Prepared(int attempt = 1) {
    return Status("0000", attempt, AttemptStatus::State::kPrepared);
  }
  AttemptStatus Refused(int attempt, const std::string& reason) {
    AttemptStatus status = Status("0000", attempt, AttemptStatus::State::kRefused);
    status.reason = reason;
    return status;
  }
  void PrepareBoth(int attempt = 1) {
    ASSERT_TRUE(Beat("a", {Prepared(attempt)}).ok());
    ASSERT_TRUE(Beat("b", {Prepared(attempt)}).ok());
  }
  /// "prepare 2", "start", "stop", "stop after saving", "release", each with its attempt.
  std::vector<std::string> Commands(const std::string& worker) {
    std::vector<std::string> out;
    for (const Command& command : core_->CommandsFor(worker)) {
      if (const auto* c = std::get_if<PrepareCommand>(&command)) {
        out.push_back(absl::StrCat("prepare ", c->slots, " for ", c->key.attempt));
      } else if (const auto* start = std::get_if<StartCommand>(&command)) {
        out.push_back(absl::StrCat("start ", start->key.attempt));
      } else if (const auto* stop = std::get_if<StopCommand>(&command)) {
        out.push_back(absl::StrCat(stop->checkpoint ? "save and stop " : "stop ", stop->key.trial,
                                   "/", stop->key.attempt));
      } else if (const auto* release = std::get_if<ReleaseCommand>(&command)) {
        out.push_back(absl::StrCat("release ", release->key.attempt));
      }
    }
    return out;
  }
  int Free(const std::string& worker) { return core_->FreeSlots(core_->workers().at(worker)); }
  /// A heartbeat that says how much is free.
  void BeatFree(const std::string& worker, int free) {
    HeartbeatRequest request{SenderOf(worker), ++heartbeats_, free, {}};
    ASSERT_TRUE(core_->Heartbeat(request).ok());
    core_->Tick();
  }
  /// The state is what the log says.
  void CheckReplay() {
    const std::string before = core_->state().DebugString();
    State again;
    ASSERT_TRUE(store_
                    ->Replay([&](const LogEvent& event) {
                      EXPECT_TRUE(again.Apply(event).ok());
                      return absl::OkStatus();
                    })
                    .ok());
    EXPECT_EQ(again.DebugString(), before);
    EXPECT_EQ(core_->refused_events(), 0);
  }

  Random random_{7};
};

}  // namespace sae::server::testing
