// A sweep whose checkpoints take too long for its gracePeriod is told so, once.
#include "server/core/grace_notice.h"

#include <gmock/gmock.h>

#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {
using config::EventKind;
using ::testing::HasSubstr;

class GraceNotice : public CoreTest {
 protected:
  void Begin(double grace_seconds) {
    config::SweepSpec spec = MakeSpec("s", 1);
    spec.grace_seconds = grace_seconds;
    Create(spec);
    Register(Registration("w", 1));
    ASSERT_TRUE(Report("w", key_, 1, {Line(1, EventKind::kStarted)}).ok());
    last_ = 1;
  }
  static std::string Checkpoint(std::int64_t seq, double milliseconds) {
    auto event = config::ParseEvent(Line(seq, EventKind::kCheckpoint, seq)).value();
    event.values["ms.save"] = milliseconds;
    event.values["bytes.save"] = 4096;
    return config::ToJsonLine(event);
  }
  void Save(double seconds) {
    ++last_;
    ASSERT_EQ(Report("w", key_, last_, {Checkpoint(last_, 1e3 * seconds)}).value(), last_);
  }
  std::vector<std::string> Notices() const {
    std::vector<std::string> out;
    for (const LogEvent& event : disk_->log) {
      const auto* notice = std::get_if<Notice>(&event.body);
      if (notice != nullptr && event.trial.empty()) out.push_back(notice->text);
    }
    return out;
  }
  AttemptKey key_{"s", "0000", 1};
  std::int64_t last_ = 0;
};

TEST_F(GraceNotice, ComesWithTheFirstCheckpointThatIsTooSlow) {
  Begin(30);
  Save(20);
  EXPECT_TRUE(Notices().empty()) << "half as much again fits";
  Save(21);
  ASSERT_EQ(Notices().size(), 1U);
  EXPECT_THAT(Notices()[0], HasSubstr("warning: gracePeriod 30s is short: a checkpoint took 21 s"));
  EXPECT_THAT(Notices()[0], HasSubstr("gracePeriod: 32s or more"));
  Save(400);
  EXPECT_EQ(Notices().size(), 1U);
  EXPECT_DOUBLE_EQ(Sweep().slowest_save_seconds, 400);
  EXPECT_EQ(core_->refused_events(), 0);
}

TEST_F(GraceNotice, IsNotRepeatedAfterARestartNorForALineThatComesAgain) {
  Begin(30);
  Save(100);
  ASSERT_EQ(Notices().size(), 1U);
  const std::string before = core_->state().DebugString();
  ASSERT_EQ(Report("w", key_, 2, {Checkpoint(2, 1e5)}).value(), 2);
  Restart();
  EXPECT_EQ(core_->state().DebugString(), before);
  auto again = Registration("w", 1);
  again.attempts = {{key_, true}};
  Register(again);
  ASSERT_EQ(Report("w", key_, 2, {Checkpoint(2, 1e5), Checkpoint(3, 2e5)}).value(), 3);
  EXPECT_EQ(Notices().size(), 1U);
  EXPECT_DOUBLE_EQ(Sweep().slowest_save_seconds, 200);
}

TEST_F(GraceNotice, TwoInOneReportAreOneNotice) {
  Begin(30);
  ASSERT_TRUE(Report("w", key_, 2, {Checkpoint(2, 9e4), Checkpoint(3, 9e4)}).ok());
  EXPECT_EQ(Notices().size(), 1U);
}

TEST_F(GraceNotice, ZeroIsTheWorkersOwnAndSaysNothing) {
  Begin(0);
  Save(1000);
  EXPECT_TRUE(Notices().empty());
}

TEST_F(GraceNotice, NumbersThatMakeNoSenseCountAsNotSaid) {
  Begin(30);
  for (const char* value : {"null", "-5", "1e300"}) {
    ++last_;
    const std::string line =
        absl::StrCat(R"({"seq":)", last_, R"(,"time":1,"kind":"checkpoint","step":)", last_,
                     R"(,"tokens":1,"checkpoint":"c","values":{"ms.save":)", value,
                     R"(,"bytes.save":)", value, "}}\n");
    ASSERT_TRUE(Report("w", key_, last_, {line}).ok());
    const auto& saved = std::get<CheckpointSaved>(disk_->log.back().body);
    EXPECT_EQ(saved.seconds, 0) << value;
    EXPECT_EQ(saved.bytes, 0) << value;
  }
  EXPECT_TRUE(Notices().empty());
}

TEST_F(GraceNotice, WhatATrainerCouldNotDoIsKeptIfItIsKnown) {
  Begin(30);
  for (const char* word : {"write", "read", "anything"}) {
    ++last_;
    auto event = config::ParseEvent(Line(last_, EventKind::kWarning)).value();
    event.message = "no space";
    event.failed = word;
    ASSERT_TRUE(Report("w", key_, last_, {config::ToJsonLine(event)}).ok());
    const auto& notice = std::get<Notice>(disk_->log.back().body);
    EXPECT_EQ(notice.text, "warning: no space");
    EXPECT_EQ(notice.failed, std::string(word) == "anything" ? "" : word);
  }
}

}  // namespace
}  // namespace sae::server::testing
