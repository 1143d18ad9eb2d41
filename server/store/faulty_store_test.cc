// The store over a disk that fails at every possible moment: what was acknowledged is there
// afterwards, nothing is half there, and it goes on when the disk does.
#include <filesystem>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/store/sqlite_store.h"
#include "server/testing/faulty_vfs.h"

namespace sae::server::testing {
namespace {
using Fault = FaultyVfs::Fault;

constexpr int kCommits = 14;

class FaultyStoreTest : public ::testing::Test {
 protected:
  FaultyStoreTest() : vfs_("faulty") { Fresh(); }
  ~FaultyStoreTest() override {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }
  void Fresh() {
    store_.reset();
    vfs_.Reboot();
    vfs_.Heal();
    if (!folder_.empty()) std::filesystem::remove_all(folder_);
    std::string folder = ::testing::TempDir() + "/faulty_XXXXXX";
    folder_ = ::mkdtemp(folder.data());
    acknowledged_ = committed_ = 0;
  }
  absl::Status Open() {
    store_.reset();
    auto store = SqliteStore::Open(folder_ + "/c.db", vfs_.name());
    if (store.ok()) store_ = std::move(*store);
    return store.status();
  }
  /// Two events, an acknowledged seq, a request, a token and a record of the audit, all numbered n.
  static Transaction Nth(int n) {
    Transaction t;
    const absl::Time now = absl::FromUnixSeconds(n);
    Notice notice{0, std::string(static_cast<std::size_t>(n % 3 * 3000), 'x'), {}};
    t.events = {{"s", 2 * n - 1, now, "", notice},
                {"s", 2 * n, now, "0000", Point{1, n, n, false, {}}}};
    t.acknowledged = {{"s", "0000", 1, n}};
    t.requests = {{"r" + std::to_string(n), "M", "s", ""}};
    t.tokens = {{"t" + std::to_string(n), "hash", "ann", "viewer", "", now}};
    t.audit = {{0, now, "ann"}};
    return t;
  }
  /// Opens and commits 1, 2, ... until the power fails or all is done.
  void Script() {
    if (!Open().ok() || !store_->BeginEpoch().ok() || (defer_ && !store_->DeferSync().ok())) {
      store_.reset();  // a coordinator does not start with this
      return;
    }
    for (int n = 1; n <= kCommits; ++n) {
      if (n % 5 == 0) {
        if (store_->WriteSnapshotParts({{"s", 0, n, std::string(9000, 'p')}}).ok())
          store_->CompleteSnapshot({n, "layout", "body"}, {{"s", n}}).IgnoreError();
      }
      if (!store_->Commit(Nth(n)).ok()) return;
      committed_ = n;
      if (defer_ && n % 3 != 0) continue;
      if (defer_ && !store_->Sync().ok()) return;
      acknowledged_ = n;
      store_->Tidy();
    }
    if (defer_ && store_->Sync().ok()) acknowledged_ = kCommits;
  }
  /// Every transaction up to acknowledged_ is there, whole; perhaps one more; nothing else.
  void CheckContents(int most_more) {
    const auto events = store_->Read("s", 0, 1000).value();
    ASSERT_EQ(events.size() % 2, 0u) << "half a transaction";
    const int n = static_cast<int>(events.size() / 2);
    ASSERT_GE(n, acknowledged_) << "an acknowledged commit is lost";
    ASSERT_LE(n, acknowledged_ + most_more);
    for (std::size_t i = 0; i < events.size(); ++i)
      ASSERT_EQ(events[i].seq, static_cast<std::int64_t>(i) + 1);
    const auto seqs = store_->AllAcknowledged().value();
    ASSERT_EQ(seqs.empty() ? 0 : seqs[0].seq, n);
    ASSERT_EQ(store_->FindRequest("r" + std::to_string(n)).value().has_value(), n > 0);
    ASSERT_FALSE(store_->FindRequest("r" + std::to_string(n + 1)).value().has_value());
    ASSERT_EQ(store_->Tokens()->size(), static_cast<std::size_t>(n));
    ASSERT_EQ(store_->ReadAudit(0, 1000)->size(), static_cast<std::size_t>(n));
    const auto head = store_->NewestSnapshot();
    ASSERT_TRUE(head.ok()) << head.status();
    if (*head) {
      ASSERT_TRUE(store_->ReadSnapshotPart("s", (*head)->cut, 0).ok());
    }
    acknowledged_ = n;
  }
  std::int64_t OperationsOfScript() {
    const std::int64_t before = vfs_.operations();
    Script();
    EXPECT_EQ(acknowledged_, kCommits);
    return vfs_.operations() - before;
  }

  /// The script once for each of its operations, twice: the power fails there, whole or torn. What
  /// is found after the reboot is `check`'s to judge.
  template <class Check>
  void AtEachPowerCut(std::int64_t operations, Check check) {
    for (std::int64_t at = 1; at <= operations; ++at) {
      for (const auto& seed : {std::optional<std::uint64_t>(), std::optional<std::uint64_t>(at)}) {
        SCOPED_TRACE(::testing::Message() << "at operation " << at << (seed ? ", torn" : ""));
        Fresh();
        vfs_.CutPowerAt(vfs_.operations() + at, seed);
        Script();
        ASSERT_TRUE(vfs_.power_is_off());
        store_.reset();
        vfs_.Reboot();
        const absl::Status status = Open();
        ASSERT_TRUE(status.ok()) << status;
        ASSERT_NO_FATAL_FAILURE(check());
      }
    }
  }

  FaultyVfs vfs_;
  std::string folder_;
  std::unique_ptr<SqliteStore> store_;
  bool defer_ = false;    // syncs: every third commit, and what was not synced counts for nothing
  int acknowledged_ = 0;  // durable
  int committed_ = 0;
};

TEST_F(FaultyStoreTest, DeferredCommitsAreDurableWithTheNextSync) {
  defer_ = true;
  int syncs = 0;
  vfs_.OnSync([&] { ++syncs; });
  Script();
  ASSERT_EQ(acknowledged_, kCommits);
  syncs = 0;
  for (int n = kCommits + 1; n <= kCommits + 5; ++n) ASSERT_TRUE(store_->Commit(Nth(n)).ok());
  EXPECT_EQ(syncs, 0);
  EXPECT_TRUE(store_->unsynced());
  ASSERT_TRUE(store_->Sync().ok());
  EXPECT_EQ(syncs, 1) << "one for all";
  EXPECT_FALSE(store_->unsynced());
  ASSERT_TRUE(store_->Commit(Nth(kCommits + 6)).ok());
  vfs_.CutPowerAt(vfs_.operations() + 1);
  EXPECT_TRUE(absl::IsUnavailable(store_->Sync())) << "and the last one is lost";
  store_.reset();
  vfs_.Reboot();
  ASSERT_TRUE(Open().ok());
  acknowledged_ = kCommits + 5;
  ASSERT_NO_FATAL_FAILURE(CheckContents(0));
  vfs_.OnSync(nullptr);  // the store syncs when it closes
}

TEST_F(FaultyStoreTest, ALongLogIsBroughtInWhenItIsTidied) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(store_->BeginEpoch().ok());
  ASSERT_TRUE(store_->DeferSync().ok());
  const auto size = [&] { return std::filesystem::file_size(folder_ + "/c.db"); };
  const auto before = size();
  for (int n = 1; n <= 600; ++n) ASSERT_TRUE(store_->Commit(Nth(n)).ok());
  ASSERT_TRUE(store_->Sync().ok());
  EXPECT_EQ(size(), before) << "not inside a commit";
  store_->Tidy();
  EXPECT_GT(size(), before + 1'000'000);
}

TEST_F(FaultyStoreTest, WithDeferredSyncsThePowerMayFailToo) {
  defer_ = true;
  int lost = 0;
  ASSERT_NO_FATAL_FAILURE(AtEachPowerCut(OperationsOfScript(), [&] {
    const int most_more = committed_ - acknowledged_ + 1, committed = committed_;
    ASSERT_NO_FATAL_FAILURE(CheckContents(most_more));
    lost += acknowledged_ < committed ? 1 : 0;
  }));
  EXPECT_GT(lost, 0) << "otherwise this shows nothing";
}

TEST_F(FaultyStoreTest, WithDeferredSyncsAnIoErrorLeavesNoDoubtEither) {
  defer_ = true;
  const std::int64_t operations = OperationsOfScript();
  for (std::int64_t at = 1; at <= operations; ++at) {
    SCOPED_TRACE(::testing::Message() << "operation " << at);
    Fresh();
    vfs_.FailFrom(vfs_.operations() + at, Fault::kIo, 1);
    Script();
    vfs_.Heal();
    if (store_ == nullptr) {
      ASSERT_TRUE(Open().ok());
    } else if (acknowledged_ < kCommits) {
      ASSERT_TRUE(store_->Recover().ok());
    }
    ASSERT_NO_FATAL_FAILURE(CheckContents(committed_ - acknowledged_ + 1));
    ASSERT_TRUE(store_->Commit(Nth(acknowledged_ + 1)).ok());
    ASSERT_TRUE(store_->Sync().ok());
    ++acknowledged_;
    ASSERT_TRUE(Open().ok());
    ASSERT_NO_FATAL_FAILURE(CheckContents(0)) << "what was read after Recover stayed";
  }
}

TEST_F(FaultyStoreTest, ThePowerMayFailAtEveryOperation) {
  const std::int64_t operations = OperationsOfScript();
  ASSERT_GT(operations, 3 * kCommits);
  int lost = 0;
  ASSERT_NO_FATAL_FAILURE(AtEachPowerCut(operations, [&] {
    ASSERT_NO_FATAL_FAILURE(CheckContents(1));
    lost += acknowledged_ < kCommits ? 1 : 0;
    ASSERT_TRUE(store_->Commit(Nth(acknowledged_ + 1)).ok()) << "and it goes on";
  }));
  EXPECT_GT(lost, 0);
}

TEST_F(FaultyStoreTest, AnIoErrorAtEveryOperationLeavesNoDoubt) {
  const std::int64_t operations = OperationsOfScript();
  for (std::int64_t at = 1; at <= operations; ++at) {
    for (const std::int64_t count : {1, 3}) {
      SCOPED_TRACE(::testing::Message() << count << " from operation " << at);
      Fresh();
      vfs_.FailFrom(vfs_.operations() + at, Fault::kIo, count);
      Script();
      if (store_ == nullptr) {
        vfs_.Heal();
        ASSERT_TRUE(Open().ok());
      } else if (acknowledged_ < kCommits) {
        absl::Status recovered = absl::UnavailableError("not tried");
        for (int tries = 0; tries < 10 && !recovered.ok(); ++tries) recovered = store_->Recover();
        ASSERT_TRUE(recovered.ok()) << recovered;
      }
      ASSERT_NO_FATAL_FAILURE(CheckContents(1));
      ASSERT_TRUE(store_->Commit(Nth(acknowledged_ + 1)).ok());
      ++acknowledged_;
      vfs_.Heal();
      ASSERT_TRUE(Open().ok());
      ASSERT_NO_FATAL_FAILURE(CheckContents(0)) << "what was read after Recover stayed";
    }
  }
}

TEST_F(FaultyStoreTest, AFullDiskIsSaidAndGoesOnWhenThereIsSpace) {
  ASSERT_TRUE(Open().ok());
  ASSERT_TRUE(store_->BeginEpoch().ok());
  ASSERT_TRUE(store_->Commit(Nth(1)).ok());
  acknowledged_ = 1;
  vfs_.FailFrom(0, Fault::kNoSpace);
  for (int i = 0; i < 3; ++i) {
    const absl::Status status = store_->Commit(Nth(2));
    EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
    EXPECT_THAT(Message(status), ::testing::HasSubstr("free space on its disk"));
    EXPECT_TRUE(absl::IsResourceExhausted(store_->Probe()));
    ASSERT_NO_FATAL_FAILURE(CheckContents(0));
  }
  vfs_.Heal();
  EXPECT_TRUE(store_->Probe().ok());
  ASSERT_TRUE(store_->Commit(Nth(2)).ok());
  acknowledged_ = 2;
  ASSERT_TRUE(Open().ok());
  ASSERT_NO_FATAL_FAILURE(CheckContents(0));
}

TEST_F(FaultyStoreTest, AFileSaysWhatFails) {
  const std::string control = folder_ + "/control";
  const auto say = [&](const std::string& word) {
    std::filesystem::remove(control);
    if (FILE* f = std::fopen(control.c_str(), "w"); f != nullptr) {
      std::fputs(word.c_str(), f);
      std::fclose(f);
    }
  };
  ASSERT_TRUE(Open().ok());
  vfs_.FollowFile(control);
  ASSERT_TRUE(store_->Commit(Nth(1)).ok());
  say("full");
  EXPECT_TRUE(absl::IsResourceExhausted(store_->Commit(Nth(2))));
  say("none");
  EXPECT_TRUE(store_->Commit(Nth(2)).ok());
  say("io");
  EXPECT_TRUE(absl::IsUnavailable(store_->Commit(Nth(3))));
  say("slow 1");
  ASSERT_TRUE(store_->Recover().ok());
  int syncs = 0;
  vfs_.OnSync([&] { ++syncs; });
  const auto events = store_->Read("s", 0, 100)->size();
  EXPECT_TRUE(store_->Commit(Nth(static_cast<int>(events) / 2 + 1)).ok());
  EXPECT_GT(syncs, 0) << "every commit is synced";
}

}  // namespace
}  // namespace sae::server::testing
