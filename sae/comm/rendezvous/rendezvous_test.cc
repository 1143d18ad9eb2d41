#include "sae/comm/rendezvous.h"

#include <functional>
#include <thread>
#include <vector>

#include <gtest/gtest.h>

#include "tests/support/temp_dir.h"

namespace sae::comm {
namespace {

using Body = std::function<absl::Status(Rendezvous&)>;

absl::Status OverMessages(int ranks, const Body& body, absl::Duration deadline) {
  return RunInProcess(
      ranks,
      [&](Communicator& c) -> absl::Status {
        SAE_ASSIGN_OR_RETURN(const std::unique_ptr<Rendezvous> rendezvous, CreateRendezvous(c));
        SAE_RETURN_IF_ERROR(body(*rendezvous));
        return absl::OkStatus();
      },
      deadline);
}

FileRendezvousOptions Files(const sae::testing::TempDir& folder, int rank, int size) {
  return {.env = &RealEnv(),
          .clock = &RealClock(),
          .folder = folder.path(),
          .attempt = "sweep-7.trial-3.attempt-2",
          .rank = rank,
          .size = size};
}

absl::Status OverFolder(int ranks, const Body& body, absl::Duration) {
  const sae::testing::TempDir folder;
  std::vector<absl::Status> results(static_cast<std::size_t>(ranks));
  std::vector<std::thread> threads;
  for (int r = 0; r < ranks; ++r) {
    threads.emplace_back([&, r] {
      const auto rendezvous = CreateFileRendezvous(Files(folder, r, ranks));
      results[static_cast<std::size_t>(r)] =
          rendezvous.ok() ? body(**rendezvous) : rendezvous.status();
    });
  }
  for (std::thread& thread : threads) thread.join();
  for (const absl::Status& result : results) SAE_RETURN_IF_ERROR(result);
  return absl::OkStatus();
}

struct Way {
  const char* name;
  absl::Status (*run)(int ranks, const Body& body, absl::Duration deadline);
};

class EveryWay : public ::testing::TestWithParam<Way> {};
INSTANTIATE_TEST_SUITE_P(All, EveryWay,
                         ::testing::Values(Way{"Communicator", OverMessages},
                                           Way{"Files", OverFolder}),
                         [](const auto& p) { return p.param.name; });

constexpr absl::Duration kLong = absl::Seconds(30);

TEST_P(EveryWay, CarriesBlobsFromAnyRank) {
  const std::string id(128, '\0');
  const absl::Status status = GetParam().run(
      3,
      [&](Rendezvous& r) -> absl::Status {
        for (int publisher = 0; publisher < r.size(); ++publisher) {
          const std::string key = absl::StrCat("id.", publisher);
          const std::string blob = id + key;
          if (r.rank() == publisher) {
            SAE_RETURN_IF_ERROR(r.Publish(key, blob));
            continue;
          }
          SAE_ASSIGN_OR_RETURN(const std::string found, r.Fetch(key, publisher, kLong));
          if (found != blob) return absl::InternalError("another blob came");
        }
        return absl::OkStatus();
      },
      kLong);
  EXPECT_EQ(status.ToString(), "OK");
}

TEST_P(EveryWay, RollCallNamesWhoStaysAway) {
  const absl::Status status = GetParam().run(
      3,
      [](Rendezvous& r) -> absl::Status {
        if (r.rank() == 1) return absl::OkStatus();
        const absl::Status missing = r.RollCall("stuck", absl::Milliseconds(200));
        if (!absl::IsDeadlineExceeded(missing) ||
            Message(missing).find("no sign of rank 1") == std::string::npos) {
          return absl::InternalError(missing.ToString());
        }
        return absl::OkStatus();
      },
      absl::Milliseconds(200));
  EXPECT_EQ(status.ToString(), "OK");
}

TEST_P(EveryWay, AnAbortEndsARollCall) {
  const absl::Status status = GetParam().run(
      3,
      [](Rendezvous& r) -> absl::Status {
        if (r.rank() == 1) {
          while (!r.Called("stuck")) SAE_RETURN_IF_ERROR(r.Check());
          r.Abort("no more paper");
          return absl::OkStatus();
        }
        const absl::Status told = r.RollCall("stuck", kLong);
        return absl::IsAborted(told) && Message(told) == "rank 1: no more paper"
                   ? absl::OkStatus()
                   : absl::InternalError(told.ToString());
      },
      kLong);
  EXPECT_EQ(status.ToString(), "OK");
}

TEST_P(EveryWay, RollCallOfAll) {
  const Body all = [](Rendezvous& r) { return r.RollCall("stuck", kLong); };
  EXPECT_EQ(GetParam().run(4, all, kLong).ToString(), "OK");
}

TEST_P(EveryWay, RollCallIsHeardByThoseWhoDoNotWait) {
  const absl::Status status = GetParam().run(
      3,
      [](Rendezvous& r) -> absl::Status {
        SAE_ASSIGN_OR_RETURN(const auto part, r.Split(0, r.rank(), r.rank(), r.size()));
        if (part->Called("uck")) return absl::InternalError("nobody has called that");
        while (r.rank() != 1 && !part->Called("stuck")) SAE_RETURN_IF_ERROR(part->Check());
        SAE_RETURN_IF_ERROR(part->RollCall("stuck", kLong));
        SAE_RETURN_IF_ERROR(part->Check());
        if (part->Called("uck") || r.Called("stuck"))
          return absl::InternalError("only that one was called");
        return part->Called("stuck") ? absl::OkStatus() : absl::InternalError("it was called");
      },
      kLong);
  EXPECT_EQ(status.ToString(), "OK");
}

TEST_P(EveryWay, AbortReachesAllAndTheirParts) {
  const absl::Status status = GetParam().run(
      4,
      [](Rendezvous& r) -> absl::Status {
        SAE_ASSIGN_OR_RETURN(const auto part, r.Split(r.rank() % 2, r.rank(), r.rank() / 2, 2));
        SAE_ASSIGN_OR_RETURN(const auto other, r.Split(0, r.rank(), r.rank(), 4));
        if (part->rank() == 0) {
          SAE_RETURN_IF_ERROR(part->Publish("color", absl::StrCat(r.rank() % 2)));
        } else {
          SAE_ASSIGN_OR_RETURN(const std::string color, part->Fetch("color", 0, kLong));
          if (color != absl::StrCat(r.rank() % 2)) return absl::InternalError("another part's");
        }
        SAE_RETURN_IF_ERROR(other->RollCall("met", kLong));
        if (r.rank() == 2) r.Abort("no more paper");
        absl::Status seen;
        while (seen.ok()) seen = part->Check();
        if (!absl::IsAborted(seen) ||
            Message(seen).find("rank 2: no more paper") == std::string::npos)
          return absl::InternalError(seen.ToString());
        return r.Check().ok() ? absl::InternalError("the whole has not heard") : absl::OkStatus();
      },
      kLong);
  EXPECT_EQ(status.ToString(), "OK");
}

TEST(FileRendezvous, TakesNothingOfAnotherAttempt) {
  const sae::testing::TempDir folder;
  FileRendezvousOptions options = Files(folder, 0, 2);
  options.attempt = "attempt-1";
  const auto earlier = CreateFileRendezvous(options);
  ASSERT_TRUE(earlier.ok());
  ASSERT_TRUE((*earlier)->Publish("id", "stale").ok());
  (*earlier)->Abort("the attempt before");
  options.attempt = "attempt-2";
  options.rank = 1;
  const auto now = CreateFileRendezvous(options);
  ASSERT_TRUE(now.ok());
  EXPECT_TRUE((*now)->Check().ok());
  const auto id = (*now)->Fetch("id", 0, absl::Milliseconds(30));
  EXPECT_TRUE(absl::IsDeadlineExceeded(id.status())) << id.status();
  EXPECT_NE(Message(id.status()).find("rank 0"), std::string::npos);
}

TEST(FileRendezvous, RefusesNamesThatLeaveTheFolder) {
  const sae::testing::TempDir folder;
  FileRendezvousOptions options = Files(folder, 0, 1);
  options.attempt = "../elsewhere";
  EXPECT_TRUE(absl::IsInvalidArgument(CreateFileRendezvous(options).status()));
  options.attempt = "a";
  options.rank = 1;
  EXPECT_TRUE(absl::IsInvalidArgument(CreateFileRendezvous(options).status()));
  options.rank = 0;
  const auto rendezvous = CreateFileRendezvous(options);
  ASSERT_TRUE(rendezvous.ok());
  EXPECT_TRUE(absl::IsInvalidArgument((*rendezvous)->Publish("a/b", "")));
  EXPECT_TRUE(absl::IsInvalidArgument((*rendezvous)->Publish("", "")));
}

}  // namespace
}  // namespace sae::comm
