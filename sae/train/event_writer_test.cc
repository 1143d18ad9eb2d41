#include "sae/train/event_writer.h"

#include <gtest/gtest.h>

#include <fstream>

#include "sae/train/trainer_testing.h"
#include "tests/support/fault_env.h"

namespace sae::train {
namespace {
using config::Event;
using config::EventKind;
using testing::FaultEnv;
using testing::TempDir;

Event Make(EventKind kind, std::int64_t step) {
  Event e;
  e.kind = kind;
  e.step = step;
  e.tokens = step * 8;
  return e;
}

TEST(EventWriter, NumbersFromOneWithoutGapsAndStampsTheWallClock) {
  TempDir dir;
  FakeClock clock;
  {
    auto writer = EventWriter::Open(RealEnv(), clock, dir / "events.jsonl").value();
    ASSERT_TRUE(writer->Append(Make(EventKind::kStarted, 0)).ok());
    clock.Advance(absl::Seconds(2));
    ASSERT_TRUE(writer->Append(Make(EventKind::kMetrics, 1)).ok());
  }
  auto writer = EventWriter::Open(RealEnv(), clock, dir / "events.jsonl").value();
  ASSERT_TRUE(writer->Append(Make(EventKind::kFinished, 2)).ok());
  const std::vector<Event> events = ReadEvents(dir / "events.jsonl");
  ASSERT_EQ(events.size(), 3U);
  for (std::size_t i = 0; i < 3; ++i) EXPECT_EQ(events[i].seq, static_cast<std::int64_t>(i) + 1);
  EXPECT_DOUBLE_EQ(events[1].time - events[0].time, 2.0);
}

TEST(EventWriter, ATornLastLineIsDroppedAndItsNumberUsedAgain) {
  TempDir dir;
  FakeClock clock;
  {
    auto writer = EventWriter::Open(RealEnv(), clock, dir / "events.jsonl").value();
    ASSERT_TRUE(writer->Append(Make(EventKind::kStarted, 0)).ok());
  }
  std::ofstream(dir / "events.jsonl", std::ios::app) << R"({"seq":2,"kind":"met)";
  auto writer = EventWriter::Open(RealEnv(), clock, dir / "events.jsonl").value();
  ASSERT_TRUE(writer->Append(Make(EventKind::kMetrics, 5)).ok());
  const std::vector<Event> events = ReadEvents(dir / "events.jsonl");
  ASSERT_EQ(events.size(), 2U);
  EXPECT_EQ(events[1].seq, 2);
  EXPECT_EQ(events[1].step, 5);
}

TEST(EventWriter, AFileThatIsNoLogIsLeftAlone) {
  TempDir dir;
  FakeClock clock;
  std::ofstream(dir / "events.jsonl") << "my shopping list\n";
  const auto writer = EventWriter::Open(RealEnv(), clock, dir / "events.jsonl");
  EXPECT_EQ(writer.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(RealEnv().Read(dir / "events.jsonl").value(), "my shopping list\n");
}

TEST(EventWriter, AVerdictSurvivesALossOfPowerAndBringsTheLinesBeforeIt) {
  TempDir dir;
  FakeClock clock;
  FaultEnv env(RealEnv());
  auto writer = EventWriter::Open(env, clock, dir / "events.jsonl").value();
  ASSERT_TRUE(env.SyncDirectory(dir.path()).ok());
  ASSERT_TRUE(writer->Append(Make(EventKind::kMetrics, 1)).ok());
  ASSERT_TRUE(writer->Append(Make(EventKind::kYielded, 2)).ok());
  ASSERT_TRUE(writer->Append(Make(EventKind::kMetrics, 3)).ok());
  env.LosePower();
  EXPECT_EQ(ReadEvents(dir / "events.jsonl").size(), 2U);
}

TEST(EventWriter, AFailureWithoutAStepTakesTheLastOne) {
  TempDir dir;
  FakeClock clock;
  auto writer = EventWriter::Open(RealEnv(), clock, dir / "events.jsonl").value();
  ASSERT_TRUE(writer->Append(Make(EventKind::kMetrics, 7)).ok());
  EXPECT_TRUE(writer->TryAppend(Make(EventKind::kFailed, 0)));
  EXPECT_EQ(ReadEvents(dir / "events.jsonl").back().step, 7);
  EXPECT_EQ(ReadEvents(dir / "events.jsonl").back().tokens, 56);
}

}  // namespace
}  // namespace sae::train
