#include "worker/agent/testing/world.h"

#include "sae/base/check.h"

namespace saeloom::agent {

World::World() {
  const std::string manifest = R"({"format": 1, "d": 8, "dtype": "bf16", "rows": 100})";
  SAE_CHECK(sae::RealEnv().MakeDirectories(store()).ok());
  SAE_CHECK(sae::RealEnv().MakeDirectories(folder_ / "shm").ok());
  SAE_CHECK(sae::WriteFileAtomically(sae::RealEnv(), store() + "/manifest.json", manifest).ok());
  store_hash_ = sae::HashToText(sae::Xxh3(manifest));
}

std::unique_ptr<RunsFolder> World::OpenRuns(const std::string& name) {
  auto runs = RunsFolder::Open({.env = &sae::RealEnv(),
                                .directory = folder_ / "runs",
                                .name = name,
                                .host = "host",
                                .now = sae::RealClock().Now(),
                                // Of the folder: tests side by side may begin in one millisecond,
                                // and what has one runs id is one worker's to kill.
                                .random = sae::Random(sae::Xxh3(folder_.path()))});
  SAE_CHECK_MSG(runs.ok(), "%s", runs.status().ToString().c_str());
  return *std::move(runs);
}

GangOptions World::Gang(const std::string& mode) const {
  return {.mpirun = FAKE_GANG_PROGRAM,
          .trainer = "/bin/true",
          .scratch_root = folder_ / "shm",
          .environment = {{"FAKE_GANG", mode}}};
}

v1::StartAttempt World::Start(const std::string& trial, int attempt) const {
  v1::StartAttempt start;
  start.set_sweep("demo");
  start.set_trial(trial);
  start.set_attempt(attempt);
  start.set_store(store());
  start.set_store_hash(store_hash_);
  start.set_slots(1);
  auto& config = *start.mutable_config();
  config.set_ranks(1);
  config.mutable_sae()->set_architecture("topk");
  config.mutable_sae()->set_latents(32);
  config.mutable_sae()->set_k(4);
  config.mutable_train()->set_tokens(1e5);
  return start;
}

}  // namespace saeloom::agent
