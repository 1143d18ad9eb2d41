// One contract, two stores; and what only the file can get wrong.
#include <filesystem>
#include <fstream>
#include <sqlite3.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/store/memory_store.h"
#include "server/store/sqlite_store.h"

namespace sae::server {
namespace {
using ::testing::HasSubstr;
using Seqs = std::vector<std::int64_t>;

LogEvent Event(const std::string& sweep, std::int64_t seq, Body body,
               const std::string& trial = "") {
  return {sweep, seq, absl::FromUnixNanos(1'700'000'000'123'456'789 + seq), trial, std::move(body)};
}
LogEvent PointAt(const std::string& sweep, std::int64_t seq, const std::string& trial) {
  return Event(sweep, seq, Point{1, seq * 10, seq * 100, false, {{"train.loss", 0.5}}}, trial);
}
Seqs SeqsOf(const std::vector<LogEvent>& events) {
  Seqs out;
  for (const LogEvent& e : events) out.push_back(e.seq);
  return out;
}

class Fixture {
 public:
  virtual ~Fixture() = default;
  virtual EventStore& store() = 0;
  virtual void Reopen() = 0;
};
class MemoryFixture final : public Fixture {
 public:
  EventStore& store() override { return *store_; }
  void Reopen() override { store_ = std::make_unique<MemoryStore>(disk_); }

 private:
  std::shared_ptr<MemoryStore::Disk> disk_ = std::make_shared<MemoryStore::Disk>();
  std::unique_ptr<MemoryStore> store_ = std::make_unique<MemoryStore>(disk_);
};
std::string FreshFolder() {
  std::string path = ::testing::TempDir() + "/event_store_XXXXXX";
  return ::mkdtemp(path.data());
}
class SqliteFixture final : public Fixture {
 public:
  SqliteFixture() { Reopen(); }
  ~SqliteFixture() override {
    store_.reset();
    std::filesystem::remove_all(folder_);
  }
  EventStore& store() override { return *store_; }
  void Reopen() override {
    store_.reset();
    auto store = SqliteStore::Open(folder_ + "/log.db");
    ASSERT_TRUE(store.ok()) << store.status();
    store_ = std::move(*store);
  }

 private:
  std::string folder_ = FreshFolder();
  std::unique_ptr<SqliteStore> store_;
};

class EventStoreContract : public ::testing::TestWithParam<std::string> {
 protected:
  EventStoreContract() {
    if (GetParam() == "memory") {
      fixture_ = std::make_unique<MemoryFixture>();
    } else {
      fixture_ = std::make_unique<SqliteFixture>();
    }
  }
  EventStore& store() { return fixture_->store(); }
  std::unique_ptr<Fixture> fixture_;
};

TEST_P(EventStoreContract, EpochGrowsWithEveryStart) {
  EXPECT_EQ(store().BeginEpoch().value(), 1);
  fixture_->Reopen();
  EXPECT_EQ(store().BeginEpoch().value(), 2);
}

TEST_P(EventStoreContract, BothKindsShareOneSequence) {
  Transaction t;
  t.events = {Event("a", 1, SweepCreated{R"({"name":"a"})", {{}}}), PointAt("a", 2, "0000"),
              Event("a", 3, AttemptStarting{1}, "0000"), PointAt("a", 4, "0001"),
              Event("b", 1, CancelRequested{})};
  ASSERT_TRUE(store().Commit(t).ok());
  fixture_->Reopen();
  EXPECT_EQ(SeqsOf(store().Read("a", 0, 100).value()), (Seqs{1, 2, 3, 4}));
  EXPECT_EQ(SeqsOf(store().Read("a", 1, 2).value()), (Seqs{2, 3}));
  EXPECT_TRUE(store().Read("none", 0, 10).value().empty());
  const LogEvent point = store().Read("a", 3, 1).value().at(0);
  EXPECT_EQ(point.trial, "0001");
  EXPECT_EQ(point.time, absl::FromUnixNanos(1'700'000'000'123'456'793));
  EXPECT_EQ(std::get<Point>(point.body).step, 40);
  EXPECT_EQ(store().Heads().value(), (std::map<std::string, std::int64_t>{{"a", 4}, {"b", 1}}));
}

TEST_P(EventStoreContract, ReplaySeesLifecycleInCommitOrder) {
  ASSERT_TRUE(
      store().Commit({{Event("b", 1, CancelRequested{}), PointAt("b", 2, "0000")}, {}, {}}).ok());
  ASSERT_TRUE(store().Commit({{Event("a", 1, CancelRequested{})}, {}, {}}).ok());
  ASSERT_TRUE(store().Commit({{Event("b", 3, CancelRequested{})}, {}, {}}).ok());
  std::vector<std::string> seen;
  ASSERT_TRUE(store()
                  .Replay([&](const LogEvent& e) {
                    seen.push_back(absl::StrCat(e.sweep, e.seq));
                    return absl::OkStatus();
                  })
                  .ok());
  EXPECT_EQ(seen, (std::vector<std::string>{"b1", "a1", "b3"}));
  EXPECT_EQ(store().Replay([](const LogEvent&) { return absl::DataLossError("x"); }).code(),
            absl::StatusCode::kDataLoss);
}

TEST_P(EventStoreContract, PointsOfOneTrialBothWays) {
  Transaction t;
  for (std::int64_t seq = 1; seq <= 10; ++seq)
    t.events.push_back(PointAt("a", seq, seq % 2 == 0 ? "0000" : "0001"));
  ASSERT_TRUE(store().Commit(t).ok());
  EXPECT_EQ(SeqsOf(store().ReadPoints("a", "0000", 2, 3).value()), (Seqs{4, 6, 8}));
  EXPECT_EQ(SeqsOf(store().ReadPointsBackward("a", "0000", INT64_MAX, 2).value()), (Seqs{10, 8}));
  EXPECT_EQ(SeqsOf(store().ReadPointsBackward("a", "0001", 5, 9).value()), (Seqs{3, 1}));
}

TEST_P(EventStoreContract, ATransactionIsAllOrNothing) {
  ASSERT_TRUE(store().Commit({{Event("a", 1, CancelRequested{})}, {}, {}}).ok());
  Transaction bad;
  bad.events = {Event("a", 2, CancelRequested{}), Event("a", 1, CancelRequested{})};
  bad.acknowledged = {{"a", "0000", 1, 9}};
  bad.requests = {{"id", "M", "a", ""}};
  EXPECT_FALSE(store().Commit(bad).ok());
  fixture_->Reopen();
  EXPECT_EQ(SeqsOf(store().Read("a", 0, 10).value()), Seqs{1});
  EXPECT_TRUE(store().AllAcknowledged().value().empty());
  EXPECT_FALSE(store().FindRequest("id").value().has_value());
  ASSERT_TRUE(store().Commit({{Event("a", 2, CancelRequested{})}, {}, {}}).ok())
      << "and it goes on";
}

TEST_P(EventStoreContract, AcknowledgedAndRequestsAreKept) {
  const UsedRequest request{"id", "CreateSweep", "a", "x,y"};
  ASSERT_TRUE(store().Commit({{}, {{"a", "0000", 1, 5}, {"a", "0000", 2, 1}}, {request}}).ok());
  ASSERT_TRUE(store().Commit({{}, {{"a", "0000", 1, 8}}, {}}).ok());
  fixture_->Reopen();
  EXPECT_EQ(store().AllAcknowledged().value(),
            (std::vector<Acknowledged>{{"a", "0000", 1, 8}, {"a", "0000", 2, 1}}));
  EXPECT_EQ(store().FindRequest("id").value(), request);
  EXPECT_FALSE(store().FindRequest("other").value().has_value());
  EXPECT_GE(store().SizeBytes(), 0);
}

TEST_P(EventStoreContract, OldRequestsGoAndThoseWithoutATimeAreGivenOne) {
  const absl::Time now = absl::FromUnixSeconds(1'700'000'000);
  const auto used = [&](const std::string& id, absl::Time time) {
    return UsedRequest{id, "M", "a", "x", time};
  };
  Transaction t;
  t.requests = {used("d", now), used("b", now - absl::Hours(3)), used("a", now - absl::Hours(4)),
                used("c", now - absl::Hours(2)), used("unknown", absl::UnixEpoch())};
  ASSERT_TRUE(store().Commit(t).ok());
  const auto there = [&](const std::string& id) { return store().FindRequest(id)->has_value(); };
  const absl::Time before = now - absl::Hours(1);
  EXPECT_EQ(store().TrimRequests(before, now, 2).value(), 2) << "no more at once";
  EXPECT_EQ(store().FindRequest("unknown").value(), used("unknown", now));
  EXPECT_FALSE(there("a")) << "the oldest first";
  EXPECT_TRUE(there("b"));
  EXPECT_EQ(store().TrimRequests(before, now, 9).value(), 2);
  EXPECT_FALSE(there("b") || there("c"));
  fixture_->Reopen();
  EXPECT_EQ(store().FindRequest("d").value(), used("d", now));
  EXPECT_EQ(store().TrimRequests(before, now, 9).value(), 0);
  EXPECT_EQ(store().TrimRequests(now + absl::Hours(1), now, 9).value(), 2);
  EXPECT_FALSE(there("d") || there("unknown"));
}

TEST_P(EventStoreContract, TokensAreReplacedAndAuditIsAppended) {
  const absl::Time now = absl::FromUnixNanos(1'700'000'000'000'000'001);
  TokenRecord token{"sael_ab", "hash", "ann", "admin", "laptop", now};
  TokenRecord other{"sael_cd", "hash2", "bob", "viewer", "", now, now + absl::Hours(1)};
  const AuditRecord call{7, now, "ann", "admin", "CreateSweep", "s", "r-1", "OK", "ipv4:x"};
  Transaction t;
  t.tokens = {other, token};
  t.audit = {call, call};
  ASSERT_TRUE(store().Commit(t).ok());
  token.revoked = true;
  token.last_used = now;
  Transaction again;
  again.tokens = {token};
  again.audit = {call};
  ASSERT_TRUE(store().Commit(again).ok());
  fixture_->Reopen();
  EXPECT_EQ(store().Tokens().value(), (std::vector<TokenRecord>{token, other}));
  AuditRecord second = call, third = call;
  second.id = 2;
  third.id = 3;
  EXPECT_EQ(store().ReadAudit(1, 10).value(), (std::vector<AuditRecord>{second, third}));
  EXPECT_EQ(store().ReadAudit(1, 1).value(), (std::vector<AuditRecord>{second}));
  EXPECT_TRUE(store().ReadAudit(3, 10)->empty());
}

INSTANTIATE_TEST_SUITE_P(Stores, EventStoreContract, ::testing::Values("memory", "sqlite"),
                         [](const auto& param) { return param.param; });

class SqliteStoreTest : public ::testing::Test {
 protected:
  ~SqliteStoreTest() override { std::filesystem::remove_all(folder_); }
  void Sql(const std::string& sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &db), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(db);
    sqlite3_close(db);
  }
  absl::Status OpenStatus() { return SqliteStore::Open(path_).status(); }
  std::string folder_ = FreshFolder();
  std::string path_ = folder_ + "/coordinator.db";
};

TEST_F(SqliteStoreTest, ASecondProcessIsRefused) {
  const auto first = SqliteStore::Open(path_);
  ASSERT_TRUE(first.ok()) << first.status();
  const absl::Status status = OpenStatus();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("in use by another process"));
  EXPECT_THAT(Message(status), HasSubstr("--data"));
}

TEST_F(SqliteStoreTest, ANewerSchemaIsRefused) {
  ASSERT_TRUE(OpenStatus().ok());
  Sql("PRAGMA user_version=7");
  const absl::Status status = OpenStatus();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("has schema 7, this version knows 3"));
}

TEST_F(SqliteStoreTest, AnotherProgramsDatabaseIsRefused) {
  Sql("CREATE TABLE t(x)");
  const absl::Status status = OpenStatus();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("another program"));
}

TEST_F(SqliteStoreTest, DamageIsSeenAtOpen) {
  {
    auto store = SqliteStore::Open(path_).value();
    Transaction t;
    for (std::int64_t seq = 1; seq < 2000; ++seq) t.events.push_back(PointAt("a", seq, "0000"));
    ASSERT_TRUE(store->Commit(t).ok());
  }
  const auto size = std::filesystem::file_size(path_);
  ASSERT_GT(size, 50'000u);
  {
    std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
    file.seekp(static_cast<std::streamoff>(size / 2 / 4096 * 4096));
    file << std::string(4096, '\x5a');
  }
  const absl::Status status = OpenStatus();
  EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << status;
  EXPECT_THAT(Message(status), HasSubstr("backup"));

  std::ofstream(path_, std::ios::binary | std::ios::trunc)
      << "this is no database, and long enough to be read as one";
  EXPECT_EQ(OpenStatus().code(), absl::StatusCode::kDataLoss) << OpenStatus();
}

TEST_F(SqliteStoreTest, AFullDatabaseIsResourceExhaustedAndGoesOnLater) {
  ASSERT_TRUE(OpenStatus().ok());
  auto store = SqliteStore::Open(path_).value();
  ASSERT_TRUE(store->LimitPages(20).ok());
  Transaction large;
  for (std::int64_t seq = 1; seq < 3000; ++seq) large.events.push_back(PointAt("a", seq, "0000"));
  const absl::Status status = store->Commit(large);
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_TRUE(store->Read("a", 0, 10)->empty());
  ASSERT_TRUE(store->LimitPages(100'000).ok());
  EXPECT_TRUE(store->Commit(large).ok());
}

/// The file's lock keeps others out; this is what holds if it ever does not.
sqlite3* opened = nullptr;
int Catch(sqlite3* db, char**, const sqlite3_api_routines*) {
  opened = db;
  return SQLITE_OK;
}

TEST_F(SqliteStoreTest, AWriteAfterAnotherTookOverIsAborted) {
  using Entry = void (*)();
  sqlite3_auto_extension(reinterpret_cast<Entry>(Catch));
  auto store = SqliteStore::Open(path_).value();
  sqlite3_reset_auto_extension();
  ASSERT_EQ(store->BeginEpoch().value(), 1);
  ASSERT_TRUE(store->Commit({{PointAt("a", 1, "0000")}, {}, {}}).ok());
  ASSERT_EQ(sqlite3_exec(opened, "UPDATE meta SET value = value + 1", nullptr, nullptr, nullptr),
            SQLITE_OK);
  const absl::Status status = store->Commit({{PointAt("a", 2, "0000")}, {}, {}});
  EXPECT_TRUE(absl::IsAborted(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("another coordinator took over"));
  EXPECT_EQ(SeqsOf(store->Read("a", 0, 10).value()), Seqs{1});
}

TEST(MemoryStoreTest, AWriteAfterAnotherTookOverIsAborted) {
  const auto disk = std::make_shared<MemoryStore::Disk>();
  MemoryStore old(disk);
  ASSERT_TRUE(old.BeginEpoch().ok());
  ASSERT_TRUE(MemoryStore(disk).BeginEpoch().ok());
  EXPECT_TRUE(absl::IsAborted(old.Commit({{PointAt("a", 1, "0000")}, {}, {}})));
  EXPECT_TRUE(disk->log.empty());
}

TEST_F(SqliteStoreTest, AMissingFolderIsNamed) {
  path_ = folder_ + "/none/coordinator.db";
  EXPECT_THAT(Message(OpenStatus()), HasSubstr(path_));
}

TEST(SqliteAudit, TheNewestRecordsStay) {
  const std::string path = ::testing::TempDir() + "/audit.db";
  for (const char* suffix : {"", "-wal"}) std::remove((path + suffix).c_str());
  auto store = std::move(*SqliteStore::Open(path));
  ASSERT_TRUE(store->BeginEpoch().ok());
  EXPECT_EQ(*store->TrimAudit(3, 10), 0);
  for (int i = 0; i < 20; ++i) {
    Transaction t;
    t.audit = {{0, absl::FromUnixSeconds(i), "p" + std::to_string(i)}};
    ASSERT_TRUE(store->Commit(t).ok());
  }
  EXPECT_EQ(*store->TrimAudit(3, 10), 10) << "no more at once";
  EXPECT_EQ(store->ReadAudit(0, 100)->front().principal, "p10");
  EXPECT_EQ(*store->TrimAudit(3, 10), 7);
  EXPECT_EQ(*store->TrimAudit(3, 10), 0);
  const auto left = *store->ReadAudit(0, 100);
  ASSERT_EQ(left.size(), 3U);
  EXPECT_EQ(left.front().principal, "p17");
  EXPECT_EQ(left.back().principal, "p19");
}

}  // namespace
}  // namespace sae::server
