// Request ids are kept for a time and then forgotten, by the wall clock, also over restarts and
// after an older version wrote them.
#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {

class RequestAge : public CoreTest {
 protected:
  /// As the first time, or refused because the id is new and the name was used.
  absl::Status CreateAgain(const std::string& name, const std::string& id) {
    return core_->CreateSweep(PrepareSweep(MakeSpec(name, 1), 100).value(), id);
  }
};

TEST_F(RequestAge, AYoungOneIsAnsweredAlsoAfterARestart) {
  Create(MakeSpec("s", 1), "id");
  clock_.Advance(absl::Hours(24));
  core_->Tick();
  Restart();
  clock_.Advance(absl::Hours(5 * 24));
  core_->Tick();
  EXPECT_TRUE(CreateAgain("s", "id").ok());
  EXPECT_EQ(disk_->requests.size(), 1U);
}

TEST_F(RequestAge, AnOldOneIsForgotten) {
  Create(MakeSpec("s", 1), "old");
  clock_.Advance(options_.keep_requests - absl::Hours(1));
  Create(MakeSpec("t", 1), "young");
  clock_.Advance(absl::Hours(2));
  core_->Tick();
  EXPECT_EQ(disk_->requests.size(), 1U);
  EXPECT_TRUE(absl::IsAlreadyExists(CreateAgain("s", "old")));
  EXPECT_TRUE(CreateAgain("t", "young").ok());
}

TEST_F(RequestAge, ThoseOfAnOlderVersionCountFromTheStart) {
  Create(MakeSpec("s", 1), "id");
  disk_->requests.at("id").time = absl::UnixEpoch();
  Restart();
  EXPECT_EQ(disk_->requests.at("id").time, clock_.Now());
  clock_.Advance(options_.keep_requests - absl::Hours(1));
  core_->Tick();
  EXPECT_TRUE(CreateAgain("s", "id").ok());
  clock_.Advance(absl::Hours(2));
  core_->Tick();
  EXPECT_TRUE(disk_->requests.empty());
}

TEST_F(RequestAge, ManyGoInBatchesWithoutATimerOfTheirOwn) {
  for (int i = 0; i < 2500; ++i) {
    const std::string id = absl::StrCat("id-", i);
    disk_->requests[id] = {id, "M", "s", "", clock_.Now()};
  }
  Restart();
  EXPECT_EQ(core_->NextDeadline(), absl::InfiniteDuration()) << "nothing waits";
  clock_.Advance(options_.keep_requests + absl::Hours(1));
  core_->Tick();
  EXPECT_EQ(disk_->requests.size(), 1500U);
  EXPECT_EQ(core_->NextDeadline(), clock_.SinceBoot()) << "there are more";
  core_->Tick();
  EXPECT_EQ(disk_->requests.size(), 500U);
  core_->Tick();
  EXPECT_TRUE(disk_->requests.empty());
  EXPECT_EQ(core_->NextDeadline(), absl::InfiniteDuration());
}

}  // namespace
}  // namespace sae::server::testing
