// Turns of the core's thread: what is told is durable, one sync serves all that a turn has done,
// and nobody is told anything while it may be lost.
#include "server/runtime/coordinator.h"

#include <atomic>
#include <filesystem>
#include <latch>

#include "server/runtime/run_on_core.h"
#include "server/store/sqlite_store.h"
#include "server/testing/core_fixture.h"
#include "server/testing/faulty_vfs.h"

namespace sae::server::testing {
namespace {
using Fault = FaultyVfs::Fault;

struct SyncCounter final : CoreObserver {
  void OnSync(absl::Duration) override { ++syncs; }
  std::atomic<int> syncs{0};
};

class CoordinatorTest : public ::testing::Test {
 protected:
  CoordinatorTest() : vfs_("turns") {
    std::string folder = ::testing::TempDir() + "/turns_XXXXXX";
    folder_ = ::mkdtemp(folder.data());
    Start();
  }
  ~CoordinatorTest() override {
    vfs_.Heal();
    coordinator_ = nullptr;
    std::filesystem::remove_all(folder_);
  }
  void Start() {
    coordinator_ = nullptr;
    auto store = SqliteStore::Open(folder_ + "/c.db", vfs_.name());
    ASSERT_TRUE(store.ok()) << store.status();
    Coordinator::Options options;
    options.longest_wait = absl::Milliseconds(20);
    auto coordinator = Coordinator::Start(options, RealClock(), std::move(*store));
    ASSERT_TRUE(coordinator.ok()) << coordinator.status();
    coordinator_ = std::move(*coordinator);
    coordinator_->Post([this](Core& core) { core.AddObserver(&counter_); });
  }
  absl::Status Create(const std::string& name) {
    return RunOnCore<absl::Status>(*coordinator_, [name](Core& core) {
      return core.CreateSweep(*PrepareSweep(MakeSpec(name, 1), 10), {name, "h"});
    });
  }
  bool Exists(const std::string& name) {
    return RunOnCore<bool>(*coordinator_,
                           [name](Core& core) { return core.state().sweep(name) != nullptr; });
  }

  FaultyVfs vfs_;
  std::string folder_;
  SyncCounter counter_;
  std::unique_ptr<Coordinator> coordinator_;
};

TEST_F(CoordinatorTest, OneSyncServesATurnAndAnswersWaitForIt) {
  ASSERT_TRUE(Create("first").ok());
  std::latch posted(1), told(10);
  std::atomic<int> before{0}, early{0}, failed{0};
  coordinator_->Post([&](Core&) {
    posted.wait();
    before = counter_.syncs.load();
  });
  for (int i = 0; i < 10; ++i) {
    coordinator_->Post([&, i](Core& core) {
      const std::string name = "s" + std::to_string(i);
      failed += core.CreateSweep(*PrepareSweep(MakeSpec(name, 1), 10), {name, "h"}).ok() ? 0 : 1;
      early += coordinator_->store().unsynced() ? 0 : 1;
      coordinator_->WhenDurable([&](const absl::Status& durable) {
        failed += durable.ok() ? 0 : 1;
        early += coordinator_->store().unsynced() ? 1 : 0;
        told.count_down();
      });
    });
  }
  posted.count_down();
  told.wait();
  EXPECT_EQ(failed, 0);
  EXPECT_EQ(early, 0) << "committed, not synced; told, synced";
  // A turn may end between them when the machine is slow; never a sync for each.
  EXPECT_LT(counter_.syncs - before, 10);
}

TEST_F(CoordinatorTest, WhatWasToldSurvivesThePower) {
  ASSERT_TRUE(Create("s").ok());
  vfs_.CutPowerAt(vfs_.operations() + 1);
  EXPECT_FALSE(Create("t").ok());
  coordinator_ = nullptr;
  vfs_.Reboot();
  Start();
  EXPECT_TRUE(Exists("s"));
  EXPECT_FALSE(Exists("t"));
}

TEST_F(CoordinatorTest, ACommitBeforeAFailureIsNotToldBeforeItsOwnSync) {
  ASSERT_TRUE(Create("first").ok());
  std::latch told(2);
  absl::Status committed, a, b;
  coordinator_->Post([&](Core& core) {
    committed = core.CreateSweep(*PrepareSweep(MakeSpec("a", 1), 10), {"a", "h"});
    coordinator_->WhenDurable([&](const absl::Status& durable) {
      a = durable;
      told.count_down();
    });
    vfs_.FailFrom(0, Fault::kIo);
    const absl::Status failed = core.CreateSweep(*PrepareSweep(MakeSpec("b", 1), 10), {"b", "h"});
    coordinator_->WhenDurable([&, failed](const absl::Status& durable) {
      b = failed.ok() ? durable : failed;
      told.count_down();
    });
  });
  told.wait();
  EXPECT_TRUE(committed.ok()) << committed;
  EXPECT_TRUE(absl::IsUnavailable(a)) << a;
  EXPECT_TRUE(absl::IsUnavailable(b)) << b;
}

TEST_F(CoordinatorTest, AfterASyncThatFailedNobodyIsToldUntilTheLogIsReadAgain) {
  ASSERT_TRUE(Create("s").ok());
  std::atomic<int> lies{0};
  std::atomic<bool> failing{false};
  coordinator_->AddTimedHook([&](Core& core) {
    if (!core.disk().ok()) ++lies;
    return absl::InfiniteDuration();
  });
  vfs_.OnSync([&] {
    if (failing) vfs_.FailFrom(0, Fault::kIo);
  });
  failing = true;
  const absl::Status status = Create("t");
  EXPECT_TRUE(absl::IsUnavailable(status)) << status;
  EXPECT_THAT(Message(status), ::testing::HasSubstr("sync"));
  failing = false;
  vfs_.OnSync(nullptr);
  vfs_.Heal();
  // Its outcome was unknown; now it is there, or the same request makes it.
  absl::Status again = absl::UnavailableError("not tried");
  const absl::Duration until = RealClock().SinceBoot() + absl::Seconds(20);
  while (!again.ok() && RealClock().SinceBoot() < until) again = Create("t");
  EXPECT_TRUE(again.ok()) << again;
  EXPECT_TRUE(Exists("s"));
  EXPECT_TRUE(Exists("t"));
  EXPECT_EQ(lies, 0);
}

}  // namespace
}  // namespace sae::server::testing
