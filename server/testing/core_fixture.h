#pragma once
// A core over a fake clock and an in-memory disk, and workers that speak to it: for tests. A
// restart is a new core over the same disk. Not thread-safe.

#include <memory>
#include <string>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/config/events.h"
#include "server/core/core.h"
#include "server/store/memory_store.h"

namespace sae::server::testing {

/// A grid of `trials` TopK trials that differ in k, of `ranks` ranks each.
inline config::SweepSpec MakeSpec(const std::string& name, int trials, int ranks = 1) {
  config::SweepSpec spec;
  spec.name = name;
  spec.store = "/data/store";
  spec.store_hash = "xxh3:0123456789abcdef";
  spec.store_d = 64;
  spec.trial.ranks = ranks;
  spec.trial.sae.architecture = "topk";
  spec.trial.sae.latents = 1024;
  spec.trial.sae.k = 8;
  spec.trial.train.tokens = 1e5;
  spec.trial.train.batch = 1000;
  config::Parameter k;
  k.path = "sae.k";
  for (int i = 0; i < trials; ++i) k.values.push_back(std::to_string(4 + i));
  spec.parameters.push_back({k});
  return spec;
}

/// Lines of events.jsonl.
inline std::string Line(std::int64_t seq, config::EventKind kind, std::int64_t step = 0,
                        std::int64_t from_step = 0) {
  config::Event event;
  event.seq = seq;
  event.time = 1.7e9;
  event.kind = kind;
  event.step = step;
  event.tokens = step * 1000;
  event.from_step = from_step;
  if (kind == config::EventKind::kMetrics)
    event.values["train.loss"] = 1.0 / static_cast<double>(step + 1);
  if (kind == config::EventKind::kEvaluation)
    event.values["heldout.fvu"] = 2.0 / static_cast<double>(step + 1);
  if (kind == config::EventKind::kCheckpoint) event.checkpoint = "step-" + std::to_string(step);
  if (kind == config::EventKind::kFailed) event.message = "it broke";
  return config::ToJsonLine(event);
}

class CoreTest : public ::testing::Test {
 protected:
  CoreTest() : disk_(std::make_shared<MemoryStore::Disk>()) { Restart(); }

  void Restart() {
    core_.reset();
    store_ = std::make_unique<MemoryStore>(disk_);
    auto core = Core::Start(options_, clock_, *store_);
    ASSERT_TRUE(core.ok()) << core.status();
    core_ = std::move(*core);
    core_->Tick();
  }
  void Create(const config::SweepSpec& spec, const std::string& request_id = "") {
    auto prepared = PrepareSweep(spec, 1000);
    ASSERT_TRUE(prepared.ok()) << prepared.status();
    const absl::Status status = core_->CreateSweep(*prepared, request_id);
    ASSERT_TRUE(status.ok()) << status;
    core_->Tick();
  }
  static RegisterRequest Registration(const std::string& id, int slots,
                                      const std::string& runs = "runs-a",
                                      const std::string& incarnation = "1") {
    RegisterRequest request;
    request.worker_id = id;
    request.boot_id = "boot";
    request.incarnation = incarnation;
    request.slots = slots;
    request.runs_directory = "/" + runs;
    request.runs_id = runs;
    return request;
  }
  RegisterReply Register(const RegisterRequest& request) {
    auto reply = core_->Register(request);
    EXPECT_TRUE(reply.ok()) << reply.status();
    core_->Tick();
    return reply.ok() ? *reply : RegisterReply{};
  }
  Sender SenderOf(const std::string& worker, const std::string& incarnation = "1") const {
    return {worker, incarnation, core_->epoch()};
  }
  absl::Status Beat(const std::string& worker, std::vector<AttemptStatus> statuses = {},
                    const std::string& incarnation = "1") {
    HeartbeatRequest request;
    request.sender = SenderOf(worker, incarnation);
    request.heartbeat = ++heartbeats_;
    request.statuses = std::move(statuses);
    const auto reply = core_->Heartbeat(request);
    core_->Tick();
    if (reply.ok()) {
      EXPECT_EQ(reply->status_acks.size(), request.statuses.size());
    }
    return reply.status();
  }
  AttemptStatus Status(const std::string& trial, int attempt, AttemptStatus::State state,
                       int exit_code = 0, const std::string& verdict = "") {
    AttemptStatus status;
    status.key = {"s", trial, attempt};
    status.state = state;
    status.exit_code = exit_code;
    status.verdict = verdict;
    status.status_id = ++statuses_;
    return status;
  }
  AttemptStatus Ended(const std::string& trial, int attempt, int exit_code,
                      const std::string& verdict) {
    return Status(trial, attempt, AttemptStatus::State::kEnded, exit_code, verdict);
  }
  /// Waits for the group commit.
  absl::StatusOr<std::int64_t> Report(const std::string& worker, const AttemptKey& key,
                                      std::int64_t first, const std::vector<std::string>& lines) {
    absl::StatusOr<std::int64_t> out = absl::UnknownError("not answered");
    core_->Report({SenderOf(worker), key, first, lines},
                  [&](absl::StatusOr<std::int64_t> a) { out = std::move(a); });
    if (!out.ok() && absl::IsUnknown(out.status())) {
      clock_.Advance(core_->options().group_commit);
      core_->Tick();
    }
    return out;
  }
  const SweepRecord& Sweep(const std::string& name = "s") const {
    return *core_->state().sweep(name);
  }
  const TrialRecord& Trial(int index, const std::string& sweep = "s") const {
    return Sweep(sweep).trials.at(static_cast<std::size_t>(index));
  }
  TrialState StateOf(int index) const { return Trial(index).state; }
  std::string Reason(int index) const { return core_->ReasonOf(Sweep(), Trial(index)); }

  CoreOptions options_;
  FakeClock clock_;
  std::shared_ptr<MemoryStore::Disk> disk_;  // outlives restarts
  std::unique_ptr<MemoryStore> store_;
  std::unique_ptr<Core> core_;
  std::int64_t heartbeats_ = 0;
  std::int64_t statuses_ = 0;
};

}  // namespace sae::server::testing
