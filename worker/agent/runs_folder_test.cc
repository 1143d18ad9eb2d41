#include "worker/agent/runs_folder.h"

#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "worker/agent/testing/temporary_folder.h"

namespace saeloom::agent {
namespace {

absl::StatusOr<std::unique_ptr<RunsFolder>> Open(const std::string& directory,
                                                 const std::string& name, std::uint64_t seed) {
  return RunsFolder::Open({.env = &sae::RealEnv(),
                           .directory = directory,
                           .name = name,
                           .host = "Node_7.example",
                           .now = absl::FromUnixSeconds(1'700'000'000),
                           .random = sae::Random(seed)});
}

TEST(RunsFolder, IdIsMadeOnceAndShared) {
  TemporaryFolder folder;
  auto a = Open(folder / "runs", "a", 1);
  auto b = Open(folder / "runs/../runs", "b", 2);
  ASSERT_TRUE(a.ok()) << a.status();
  ASSERT_TRUE(b.ok()) << b.status();
  EXPECT_EQ((*a)->runs_id().size(), 26U);
  EXPECT_EQ((*a)->runs_id(), (*b)->runs_id());
  EXPECT_EQ((*a)->directory(), (*b)->directory());
  EXPECT_NE((*a)->worker_id(), (*b)->worker_id());
}

// On machines and in containers that share a folder, processes have the same numbers, as threads
// do.
TEST(RunsFolder, ManyThatBeginAtOnceUnderOneProcessNumberAgree) {
  for (int round = 0; round < 20; ++round) {
    TemporaryFolder folder;
    constexpr int kMany = 6;
    std::vector<std::string> ids(kMany);
    std::vector<std::thread> threads;
    for (int i = 0; i < kMany; ++i) {
      threads.emplace_back([&, i] {
        const auto runs =
            Open(folder / "runs", absl::StrCat("w", i), 100 + static_cast<std::uint64_t>(i));
        ids[static_cast<std::size_t>(i)] =
            runs.ok() ? (*runs)->runs_id() : runs.status().ToString();
      });
    }
    for (std::thread& thread : threads) thread.join();
    for (const std::string& id : ids) ASSERT_EQ(id, ids[0]);
    ASSERT_EQ(ids[0].size(), 26U) << ids[0];
  }
}

TEST(RunsFolder, IdentityIsStableAndNeverUsedTwiceAtOnce) {
  TemporaryFolder folder;
  std::string id;
  {
    auto first = Open(folder.path(), "w", 1);
    ASSERT_TRUE(first.ok());
    id = (*first)->worker_id();
    EXPECT_EQ(id.substr(0, 2), "w-");
    const auto second = Open(folder.path(), "w", 2);
    EXPECT_EQ(second.status().code(), absl::StatusCode::kAlreadyExists);
    EXPECT_THAT(sae::Message(second.status()), testing::HasSubstr("--name"));
  }
  EXPECT_EQ((*Open(folder.path(), "w", 3))->worker_id(), id);
}

TEST(RunsFolder, DefaultNamesTakeTheFirstFreeIdentity) {
  TemporaryFolder folder;
  auto first = Open(folder.path(), "", 1);
  auto second = Open(folder.path(), "", 2);
  ASSERT_TRUE(first.ok() && second.ok());
  EXPECT_EQ((*first)->worker_id().substr(0, 7), "node-7-");
  EXPECT_EQ((*second)->worker_id().substr(0, 9), "node-7-2-");
  const std::string id = (*first)->worker_id();
  first->reset();
  EXPECT_EQ((*Open(folder.path(), "", 3))->worker_id(), id);
}

TEST(RunsFolder, BadNamesAreRefused) {
  TemporaryFolder folder;
  EXPECT_EQ(Open(folder.path(), "../x", 1).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(RunsFolder, PathsAndOpenAttempts) {
  TemporaryFolder folder;
  auto runs = Open(folder.path(), "w", 1);
  ASSERT_TRUE(runs.ok());
  const AttemptKey key{"demo", "0003", 2};
  EXPECT_EQ((*runs)->AttemptDirectory(key), (*runs)->directory() + "/demo/0003/attempts/2");
  EXPECT_EQ((*runs)->Checkpoints(key), (*runs)->directory() + "/demo/0003/checkpoints");
  EXPECT_TRUE((*runs)->Attempts(key).empty());
  for (const char* n : {"10", "9", "x"}) {
    ASSERT_TRUE(
        sae::RealEnv().MakeDirectories((*runs)->TrialDirectory(key) + "/attempts/" + n).ok());
  }
  EXPECT_THAT((*runs)->Attempts(key), testing::ElementsAre(9, 10));

  ASSERT_TRUE((*runs)->MarkOpen(key).ok());
  ASSERT_TRUE((*runs)->MarkOpen({"demo", "0004", 11}).ok());
  ASSERT_TRUE((*runs)->MarkOpen(key).ok()) << "marking twice is fine";
  runs->reset();
  runs = Open(folder.path(), "w", 2);
  ASSERT_TRUE(runs.ok());
  EXPECT_THAT(*(*runs)->OpenAttempts(), testing::ElementsAre(key, AttemptKey{"demo", "0004", 11}));
  ASSERT_TRUE((*runs)->MarkClosed(key).ok());
  EXPECT_THAT(*(*runs)->OpenAttempts(), testing::ElementsAre(AttemptKey{"demo", "0004", 11}));
}

}  // namespace
}  // namespace saeloom::agent
