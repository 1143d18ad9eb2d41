#include "worker/agent/event_log.h"

#include <fstream>

#include <gtest/gtest.h>

#include "worker/agent/testing/temporary_folder.h"

namespace saeloom::agent {
namespace {

std::string Line(std::int64_t seq, sae::config::EventKind kind = sae::config::EventKind::kMetrics) {
  sae::config::Event e;
  e.seq = seq;
  e.kind = kind;
  e.step = seq * 10;
  return sae::config::ToJsonLine(e);
}

class EventLogTest : public testing::Test {
 protected:
  void Append(const std::string& text) {
    std::ofstream(path_, std::ios::app | std::ios::binary) << text;
  }
  static std::vector<std::int64_t> Seqs(const absl::StatusOr<EventLog::Batch>& batch) {
    std::vector<std::int64_t> out;
    if (!batch.ok()) return {-1};
    for (const auto& e : batch->events) out.push_back(e.seq);
    EXPECT_EQ(batch->lines.size(), out.size());
    return out;
  }
  TemporaryFolder folder_;
  std::string path_ = folder_ / "events.jsonl";
  EventLog log_{path_};
};
using Seq = std::vector<std::int64_t>;

TEST_F(EventLogTest, AbsentIsEmpty) {
  EXPECT_EQ(Seqs(log_.Read(1, 10, 1000)), Seq{});
  EXPECT_FALSE(log_.Last().has_value());
}

TEST_F(EventLogTest, TornLastLineIsAbsentUntilItIsComplete) {
  const std::string second = Line(2);
  Append(Line(1) + second.substr(0, 20));
  EXPECT_EQ(Seqs(log_.Read(1, 10, 1000)), Seq{1});
  EXPECT_EQ(Seqs(log_.Read(2, 10, 1000)), Seq{});
  EXPECT_EQ(log_.Last()->seq, 1);
  Append(second.substr(20, second.size() - 21));
  EXPECT_EQ(Seqs(log_.Read(2, 10, 1000)), Seq{}) << "all but the newline";
  Append("\n");
  EXPECT_EQ(Seqs(log_.Read(2, 10, 1000)), Seq{2});
  EXPECT_EQ(log_.Last()->seq, 2);
}

TEST_F(EventLogTest, AnyFirstSeqInAnyOrder) {
  for (int i = 1; i <= 9; ++i) Append(Line(i));
  EXPECT_EQ(Seqs(log_.Read(4, 3, 100000)), (Seq{4, 5, 6}));
  EXPECT_EQ(Seqs(log_.Read(7, 100, 100000)), (Seq{7, 8, 9}));
  EXPECT_EQ(Seqs(log_.Read(2, 2, 100000)), (Seq{2, 3}));
  EXPECT_EQ(Seqs(log_.Read(10, 2, 100000)), Seq{});
  Append(Line(10));
  EXPECT_EQ(Seqs(log_.Read(10, 2, 100000)), Seq{10});
}

TEST_F(EventLogTest, BytesAreBoundedButOneLineAlwaysFits) {
  for (int i = 1; i <= 5; ++i) Append(Line(i));
  EXPECT_EQ(Seqs(log_.Read(1, 100, 1)), Seq{1});
  EXPECT_EQ(Seqs(log_.Read(1, 100, static_cast<std::int64_t>(2 * Line(1).size()))), (Seq{1, 2}));
}

TEST_F(EventLogTest, BrokenLineIsNamedAfterWhatStandsBeforeIt) {
  Append(Line(1) + "nonsense\n" + Line(3));
  EXPECT_EQ(Seqs(log_.Read(1, 10, 100000)), Seq{1});
  const auto broken = log_.Read(2, 10, 100000);
  EXPECT_EQ(broken.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_NE(sae::Message(broken.status()).find("line 2"), std::string::npos);
}

TEST_F(EventLogTest, WrongSeqIsDataLoss) {
  Append(Line(1) + Line(3));
  EXPECT_EQ(log_.Read(2, 10, 100000).status().code(), absl::StatusCode::kDataLoss);
}

TEST_F(EventLogTest, LastOfALongFileIsTheVerdict) {
  sae::config::Event big;
  big.seq = 1;
  big.message = std::string(300'000, 'x');
  big.kind = sae::config::EventKind::kWarning;
  Append(sae::config::ToJsonLine(big));
  EXPECT_EQ(log_.Last()->seq, 1) << "a line longer than the first window";
  for (int i = 2; i < 400; ++i) Append(Line(i));
  Append(Line(400, sae::config::EventKind::kFinished) + "{\"seq\":401");
  EXPECT_EQ(log_.Last()->kind, sae::config::EventKind::kFinished);
}

}  // namespace
}  // namespace saeloom::agent
