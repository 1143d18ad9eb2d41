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

TEST_F(MigrationTest, ANewFileHasTheNewestVersion) {
  ASSERT_TRUE(SqliteStore::Open(path_).ok());
  EXPECT_EQ(Version(), kSchemaVersion);
}

TEST_F(MigrationTest, ANewerVersionIsRefusedAndNotTouched) {
  Sql(kVersion1);
  Sql("PRAGMA user_version=3");
  const absl::Status status = SqliteStore::Open(path_).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("has schema 3, this version knows 2"));
  EXPECT_THAT(Message(status), HasSubstr("run the newer saeloom-coordinator"));
  EXPECT_EQ(Version(), 3);
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
