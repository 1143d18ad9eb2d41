#include "sae/comm/traffic.h"

#include "absl/strings/str_cat.h"
#include <gtest/gtest.h>

namespace sae::comm {
namespace {

TEST(Traffic, CountsByOperationAndByPurpose) {
  Traffic traffic;
  const int first = traffic.Purpose("select.first");
  EXPECT_EQ(traffic.Purpose("select.first"), first);
  traffic.Add(Operation::kAllGather, first, 448);
  traffic.Add(Operation::kAllReduce, traffic.Purpose("gradient"), 100);
  traffic.Add(Operation::kAllReduce, 0, 7);
  EXPECT_EQ(traffic.Total(), (Traffic::Count{555, 3}));
  EXPECT_EQ(traffic.Of(Operation::kAllReduce), (Traffic::Count{107, 2}));
  EXPECT_EQ(traffic.Of("select.first"), (Traffic::Count{448, 1}));
  EXPECT_EQ(traffic.Of("other"), (Traffic::Count{7, 1}));
  EXPECT_EQ(traffic.Of("never"), Traffic::Count{});
  const std::vector<Traffic::Entry> purposes = traffic.Purposes();
  ASSERT_EQ(purposes.size(), 3U);
  EXPECT_EQ(purposes[0].label, "other");
  EXPECT_EQ(purposes[1].label, "select.first");
  EXPECT_EQ(purposes[2].count.bytes, 100);
}

TEST(Traffic, AddsADifferenceAgain) {
  Traffic traffic;
  const int purpose = traffic.Purpose("reconstruct");
  traffic.Add(Operation::kAllReduce, purpose, 5);
  const Traffic::Snapshot before = traffic.Now();
  traffic.Add(Operation::kAllReduce, purpose, 11);
  const Traffic::Snapshot captured = traffic.Now().Since(before);
  traffic.Add(captured);
  traffic.Add(captured);
  EXPECT_EQ(traffic.Of("reconstruct"), (Traffic::Count{38, 4}));
}

TEST(Traffic, LabelsWithoutRoomAreOther) {
  Traffic traffic;
  for (int i = 0; i < 100; ++i) {
    traffic.Add(Operation::kBroadcast, traffic.Purpose(absl::StrCat("label ", i)), 1);
  }
  EXPECT_EQ(traffic.Of("label 0"), (Traffic::Count{1, 1}));
  EXPECT_EQ(traffic.Of("other"), (Traffic::Count{100 - (Traffic::kMaxPurposes - 1), 77}));
  EXPECT_EQ(traffic.Total(), (Traffic::Count{100, 100}));
}

}  // namespace
}  // namespace sae::comm
