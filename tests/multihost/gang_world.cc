#include "tests/multihost/gang_world.h"

#include "sae/base/clock.h"
#include "sae/base/hash.h"
#include "sae/config/events.h"
#include "sae/data/store_create.h"

namespace saeloom::multihost {
namespace {

constexpr int kWidth = 32, kBatch = 128;
constexpr absl::Duration kHang = absl::Seconds(60);

std::string Binary(const std::string& name) {
  const auto path = sae::FindSibling("", "--build-folder", name, sae::ExecutableDirectory());
  EXPECT_TRUE(path.ok()) << path.status();
  return path.ok() ? *path : "/bin/false";
}

}  // namespace

void GangWorld::SetUp() {
  if (!impossible.ok()) GTEST_SKIP() << "no hosts can be made here: " << impossible;
  sae::data::SyntheticSpec spec;
  spec.options.d = kWidth;
  spec.options.features = 64;
  spec.rows = 6000;
  sae::data::StoreWriterOptions writer;
  writer.directory = folder_ / "store";
  writer.d = kWidth;
  const auto manifest = sae::data::CreateSyntheticStore(spec, writer);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  store_hash_ = sae::HashToText(sae::Xxh3(*sae::RealEnv().Read(folder_ / "store/manifest.json")));
}

void GangWorld::TearDown() {
  if (HasFailure()) std::fputs(Logs().c_str(), stderr);
  hosts_.reset();
}

void GangWorld::MakeHosts(int count) {
  count_ = count;
  // MPI's ranks must not starve each other where there are fewer cores than ranks.
  hosts_ = std::make_unique<NetHosts>(
      count, std::map<std::string, std::string>{{"SAELOOM_E2E", folder_.path()},
                                                {"OMPI_MCA_mpi_yield_when_idle", "1"}});
}

void GangWorld::StartHosts(int count, absl::Duration lease) {
  MakeHosts(count);
  for (int host = 1; host <= count; ++host) {
    coordinators_.push_back(
        std::make_unique<agent::FakeCoordinator>(absl::Milliseconds(200), lease, kOwnAddress));
    StartWorker(host);
  }
  for (int host = 1; host <= count; ++host) {
    ASSERT_TRUE(Eventually([&] { return coordinator(host).free_slots() == 1; })) << Logs();
  }
}

void GangWorld::StartWorker(int host) {
  std::vector<std::string> argv = {Binary("saeloom-worker"),
                                   "--coordinator",
                                   CoordinatorOf(host),
                                   "--runs",
                                   folder_ / "runs",
                                   "--name",
                                   NetHosts::Name(host),
                                   "--slots",
                                   "1",
                                   "--device",
                                   "cpu",
                                   "--peer-listen",
                                   "0.0.0.0:0",
                                   "--mpi-host",
                                   NetHosts::Address(host),
                                   "--mpi-interface",
                                   kNetwork};
  for (const std::string& word : WorkerSecurity(host)) argv.push_back(word);
  hosts_->Start(host, argv, folder_ / (NetHosts::Name(host) + ".log"));
}

void GangWorld::StartGang(int steps, int attempt, double progress_timeout) {
  v1::PrepareAttempt prepare;
  SetKey(Key(attempt), &prepare);
  prepare.set_slots(1);
  prepare.set_token("once");
  prepare.set_store(folder_ / "store");
  prepare.set_store_hash(store_hash_);
  v1::StartAttempt start;
  SetKey(Key(attempt), &start);
  start.set_slots(count_);
  start.set_token("once");
  start.set_store(folder_ / "store");
  start.set_store_hash(store_hash_);
  start.set_progress_timeout_seconds(progress_timeout);
  v1::TrialSpec& trial = *start.mutable_config();
  trial.set_ranks(count_);
  trial.mutable_sae()->set_architecture("topk");
  trial.mutable_sae()->set_latents(252);  // for two ranks and for three
  trial.mutable_sae()->set_k(4);
  trial.mutable_train()->set_batch(kBatch);
  trial.mutable_train()->set_tokens(static_cast<double>(kBatch) * steps);
  trial.mutable_train()->set_log_every_steps(1);
  trial.mutable_train()->set_checkpoint_every_seconds(0.3);
  for (int host = 1; host <= count_; ++host) {
    coordinator(host).Command(prepare);
    const auto known = coordinator(host).registers().back();
    auto& h = *start.add_hosts();
    h.set_worker(known.worker_id());
    h.set_slots(1);
    h.set_mpi_host(known.mpi_host());
    h.set_peer_address(known.peer_address());
  }
  for (int host = 1; host <= count_; ++host) {
    ASSERT_TRUE(Eventually([&] { return !coordinator(host).Statuses(Key(attempt)).empty(); }));
    ASSERT_EQ(coordinator(host).Statuses(Key(attempt)).back().state(),
              v1::AttemptStatus::STATE_PREPARED)
        << Logs();
  }
  coordinator(1).Command(start);
}

void GangWorld::Release(int host, int attempt) {
  v1::ReleaseAttempt release;
  SetKey(Key(attempt), &release);
  coordinator(host).Command(release);
  EXPECT_TRUE(Eventually([&] {
    return coordinator(host).Ended(Key(attempt)) && coordinator(host).free_slots() == 1;
  })) << "host "
      << host;
}

void GangWorld::WaitUntilUnderWay(int attempt) {
  ASSERT_TRUE(Eventually([&] {
    for (const std::string& line : coordinator(1).Lines(Key(attempt))) {
      const auto event = sae::config::ParseEvent(line);
      if (event.ok() && event->kind == sae::config::EventKind::kCheckpoint) return true;
    }
    return coordinator(1).Ended(Key(attempt));
  }));
  ASSERT_FALSE(coordinator(1).Ended(Key(attempt))) << End(attempt).DebugString();
  for (int host = 1; host <= count_; ++host)
    ASSERT_EQ(hosts_->Find(host, "saeloom-trainer").size(), 1U) << "a rank on each host";
}

v1::AttemptStatus GangWorld::End(int attempt) {
  const auto statuses = coordinator(1).Statuses(Key(attempt));
  return statuses.empty() ? v1::AttemptStatus() : statuses.back();
}

bool GangWorld::HeadEnds(int attempt) {
  return Eventually([&] { return coordinator(1).Ended(Key(attempt)); });
}

std::vector<std::int64_t> GangWorld::Steps(int attempt) {
  std::vector<std::int64_t> steps;
  for (const std::string& line : coordinator(1).Lines(Key(attempt))) {
    const auto event = sae::config::ParseEvent(line);
    if (event.ok() && event->values.count("train.loss") > 0) steps.push_back(event->step);
  }
  return steps;
}

void GangWorld::ExpectFinished(int steps, int attempt) {
  ASSERT_TRUE(HeadEnds(attempt));
  EXPECT_EQ(End(attempt).verdict(), "finished") << End(attempt).DebugString();
  const auto all = Steps(attempt);
  ASSERT_FALSE(all.empty());
  EXPECT_EQ(all.back(), steps);
  for (std::size_t i = 1; i < all.size(); ++i) EXPECT_EQ(all[i], all[i - 1] + 1);
  EXPECT_EQ(coordinator(1).gaps(), 0);
  for (int host = 1; host <= count_; ++host)
    EXPECT_TRUE(Eventually([&] { return NothingRunsOn(host); })) << host;
}

bool GangWorld::NothingRunsOn(int host) const {
  for (const char* name : {"orted", "saeloom-trainer", "mpirun", "saeloom-rsh"}) {
    if (!hosts_->Find(host, name).empty()) return false;
  }
  return true;
}

std::string GangWorld::Logs() const {
  const auto run = sae::RunProcess(
      {.argv = {"/bin/sh", "-c", "tail -n 30 h*.log runs/demo/*/attempts/*/*.log 2>/dev/null"},
       .directory = folder_.path()},
      absl::Seconds(10));
  return run.ok() ? run->output : "";
}

bool GangWorld::Eventually(const std::function<bool()>& so) {
  const absl::Duration end = sae::RealClock().SinceBoot() + kHang;
  while (!so()) {
    if (sae::RealClock().SinceBoot() > end) return false;
    sae::RealClock().SleepFor(absl::Milliseconds(20));
  }
  return true;
}

}  // namespace saeloom::multihost
