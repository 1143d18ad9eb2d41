// Databases of every older version come up to date with their contents; what this version cannot
// read is refused and left as it is.
#include <filesystem>
#include <sqlite3.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/store/schema.h"
#include "server/store/sqlite_store.h"

namespace sae::server {
namespace {
using ::testing::HasSubstr;

/// What the first version wrote, kept as it was.
constexpr char kVersion1[] = R"sql(
CREATE TABLE meta(key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO meta VALUES('epoch', 0);
CREATE TABLE events(id INTEGER PRIMARY KEY, sweep TEXT NOT NULL, seq INTEGER NOT NULL, trial TEXT NOT NULL,
                    time INTEGER NOT NULL, kind TEXT NOT NULL, body TEXT NOT NULL, UNIQUE(sweep, seq));
CREATE TABLE telemetry(sweep TEXT NOT NULL, seq INTEGER NOT NULL, trial TEXT NOT NULL, time INTEGER NOT NULL,
                       body TEXT NOT NULL, PRIMARY KEY(sweep, seq)) WITHOUT ROWID;
CREATE INDEX telemetry_by_trial ON telemetry(sweep, trial, seq);
CREATE TABLE acknowledged(sweep TEXT NOT NULL, trial TEXT NOT NULL, attempt INTEGER NOT NULL,
                          seq INTEGER NOT NULL, PRIMARY KEY(sweep, trial, attempt)) WITHOUT ROWID;
CREATE TABLE requests(id TEXT PRIMARY KEY, method TEXT NOT NULL, sweep TEXT NOT NULL,
                      response TEXT NOT NULL) WITHOUT ROWID;
UPDATE meta SET value = 5;
INSERT INTO events VALUES(1,'a',1,'',1700000000000000000,'cancel_requested','{}');
INSERT INTO events VALUES(2,'a',3,'0000',1700000000000000001,'attempt_starting','{"attempt":1}');
INSERT INTO telemetry VALUES('a',2,'0000',1700000000000000002,
  '{"attempt":1,"step":3,"tokens":30,"evaluation":false,"values":{"train.loss":"nan"}}');
INSERT INTO acknowledged VALUES('a','0000',1,9);
INSERT INTO requests VALUES('id','CreateSweep','a','');
PRAGMA application_id=1396786508;
PRAGMA user_version=1;
)sql";

/// What the second version added, kept as it was; and what it wrote.
constexpr char kVersion2[] = R"sql(
CREATE TABLE tokens(id TEXT PRIMARY KEY, secret_hash TEXT NOT NULL, principal TEXT NOT NULL, role TEXT NOT NULL,
                    note TEXT NOT NULL, created INTEGER NOT NULL, expires INTEGER NOT NULL,
                    last_used INTEGER NOT NULL, revoked INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE audit(id INTEGER PRIMARY KEY AUTOINCREMENT, time INTEGER NOT NULL, principal TEXT NOT NULL,
                   role TEXT NOT NULL, method TEXT NOT NULL, resource TEXT NOT NULL, request_id TEXT NOT NULL,
                   code TEXT NOT NULL, peer TEXT NOT NULL);
CREATE TABLE snapshots(cut INTEGER PRIMARY KEY, layout TEXT NOT NULL, hash INTEGER NOT NULL, body BLOB NOT NULL);
CREATE TABLE snapshot_parts(id INTEGER PRIMARY KEY, sweep TEXT NOT NULL, part INTEGER NOT NULL,
                            cut INTEGER NOT NULL, hash INTEGER NOT NULL, body BLOB NOT NULL,
                            UNIQUE(sweep, cut, part));
CREATE INDEX events_by_trial ON events(sweep, trial, seq);
CREATE TABLE trimmed(sweep TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO requests VALUES('second','PauseSweep','a','answer');
INSERT INTO tokens VALUES('t','hash','ann','admin','',1,2,3,0);
PRAGMA user_version=2;
)sql";

class MigrationTest : public ::testing::Test {
 protected:
  MigrationTest() {
    std::string folder = ::testing::TempDir() + "/migration_XXXXXX";
    folder_ = ::mkdtemp(folder.data());
    path_ = folder_ + "/coordinator.db";
  }
  ~MigrationTest() override { std::filesystem::remove_all(folder_); }
  void Sql(const std::string& sql) {
    sqlite3* db = nullptr;
    ASSERT_EQ(sqlite3_open(path_.c_str(), &db), SQLITE_OK);
    ASSERT_EQ(sqlite3_exec(db, sql.c_str(), nullptr, nullptr, nullptr), SQLITE_OK)
        << sqlite3_errmsg(db);
    sqlite3_close(db);
  }
  int Version() {
    sqlite3* db = nullptr;
    sqlite3_open(path_.c_str(), &db);
    int version = -1;
    sqlite3_exec(
        db, "PRAGMA user_version",
        [](void* out, int, char** columns, char**) {
          *static_cast<int*>(out) = std::stoi(columns[0]);
          return 0;
        },
        &version, nullptr);
    sqlite3_close(db);
    return version;
  }
  std::string folder_;
  std::string path_;
};

TEST_F(MigrationTest, TheFirstVersionKeepsItsContents) {
  Sql(kVersion1);
  {
    auto store = SqliteStore::Open(path_);
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_EQ((*store)->BeginEpoch().value(), 6);
    const auto events = (*store)->Read("a", 0, 10).value();
    ASSERT_EQ(events.size(), 3u);
    EXPECT_EQ(KindOf(events[0].body), "cancel_requested");
    EXPECT_EQ(std::get<Point>(events[1].body).step, 3);
    EXPECT_EQ(std::get<AttemptStarting>(events[2].body).attempt, 1);
    EXPECT_EQ((*store)->AllAcknowledged().value(),
              (std::vector<Acknowledged>{{"a", "0000", 1, 9}}));
    EXPECT_TRUE((*store)->FindRequest("id").value().has_value());
    EXPECT_TRUE((*store)->Tokens()->empty());
    EXPECT_TRUE((*store)->ReadAudit(0, 10)->empty());
    Transaction t;
    t.tokens.push_back({"id", "hash", "ann", "admin", ""});
    EXPECT_TRUE((*store)->Commit(t).ok());
  }
  EXPECT_EQ(Version(), kSchemaVersion);
  EXPECT_EQ(SqliteStore::Open(path_).value()->Tokens()->size(), 1u) << "and only once";
}

TEST_F(MigrationTest, RequestsOfTheSecondVersionCountFromTheMigrationOn) {
  Sql(kVersion1);
  Sql(kVersion2);
  const absl::Time now = absl::FromUnixSeconds(1'800'000'000);
  const auto trim = [&](EventStore& store, absl::Time at) {
    return store.TrimRequests(at - absl::Hours(24), at, 100).value();
  };
  {
    auto store = SqliteStore::Open(path_);
    ASSERT_TRUE(store.ok()) << store.status();
    EXPECT_EQ((*store)->Tokens()->size(), 1U);
    EXPECT_EQ((*store)->FindRequest("second").value(),
              (UsedRequest{"second", "PauseSweep", "a", "answer", absl::UnixEpoch()}));
    EXPECT_EQ(trim(**store, now), 2) << "they are given a time";
    EXPECT_EQ(trim(**store, now), 0);
  }
  EXPECT_EQ(Version(), kSchemaVersion);
  auto store = SqliteStore::Open(path_).value();
  EXPECT_EQ(trim(*store, now + absl::Hours(23)), 0);
  EXPECT_EQ(store->FindRequest("second").value()->time, now) << "a young one is still answered";
  EXPECT_EQ(trim(*store, now + absl::Hours(25)), 2);
  EXPECT_FALSE(store->FindRequest("second").value().has_value());
}

TEST_F(MigrationTest, ANewFileHasTheNewestVersion) {
  ASSERT_TRUE(SqliteStore::Open(path_).ok());
  EXPECT_EQ(Version(), kSchemaVersion);
}

TEST_F(MigrationTest, ANewerVersionIsRefusedAndNotTouched) {
  Sql(kVersion1);
  Sql("PRAGMA user_version=4");
  const absl::Status status = SqliteStore::Open(path_).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("has schema 4, this version knows 3"));
  EXPECT_THAT(Message(status), HasSubstr("run the newer saeloom-coordinator"));
  EXPECT_EQ(Version(), 4);
}

TEST_F(MigrationTest, AStepThatFailsChangesNothing) {
  Sql(kVersion1);
  Sql("CREATE TABLE audit(x)");  // in the way of the second step
  EXPECT_FALSE(SqliteStore::Open(path_).ok());
  EXPECT_EQ(Version(), 1);
  Sql("SELECT count(*) FROM audit; CREATE TABLE tokens(x)");  // not made before it failed
}

}  // namespace
}  // namespace sae::server
