#include "sae/data/external_sorter.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "sae/base/random.h"
#include "sae/data/store_test_util.h"

namespace sae::data {
namespace {

class ExternalSorterTest : public ScratchTest {
 protected:
  /// Adds records 0, 1, ... with these keys and returns them in the order of Drain.
  std::vector<std::int32_t> Sort(const std::vector<std::uint64_t>& keys, std::int64_t memory,
                                 std::uint64_t width, bool* spilled) {
    TestDisk disk;
    ExternalSorter sorter({scratch_ + "/bucket-", 4, memory, width}, disk);
    for (std::int32_t i = 0; i < static_cast<std::int32_t>(keys.size()); ++i) {
      EXPECT_TRUE(sorter.Add(keys[static_cast<std::size_t>(i)],
                             std::as_bytes(std::span<const std::int32_t>(&i, 1)))
                      .ok());
    }
    EXPECT_EQ(sorter.count(), static_cast<std::int64_t>(keys.size()));
    *spilled = sorter.spilled();
    std::vector<std::int32_t> order;
    EXPECT_TRUE(sorter
                    .Drain([&](std::span<const std::byte> record) {
                      std::int32_t value;
                      std::memcpy(&value, record.data(), 4);
                      order.push_back(value);
                      return absl::OkStatus();
                    })
                    .ok());
    EXPECT_TRUE(ScratchIsEmpty()) << "bucket files are left";
    return order;
  }
};

TEST_F(ExternalSorterTest, IsAStableSortInMemoryInFilesAndInSeveralScansOfABucket) {
  Random random(1);
  std::vector<std::uint64_t> keys(500);
  for (auto& key : keys) key = random.Below(100);  // many equal keys
  std::vector<std::int32_t> want(keys.size());
  std::iota(want.begin(), want.end(), 0);
  std::stable_sort(want.begin(), want.end(), [&](std::int32_t a, std::int32_t b) {
    return keys[static_cast<std::size_t>(a)] < keys[static_cast<std::size_t>(b)];
  });
  // 500 records of 12 bytes with their key: all in memory; 4 buckets that fit; 1 bucket read 15 times.
  bool spilled = false;
  EXPECT_EQ(Sort(keys, 1 << 20, 25, &spilled), want);
  EXPECT_FALSE(spilled);
  EXPECT_EQ(Sort(keys, 3000, 25, &spilled), want);
  EXPECT_TRUE(spilled);
  EXPECT_EQ(Sort(keys, 400, 1000, &spilled), want);
  EXPECT_TRUE(spilled);
}

TEST_F(ExternalSorterTest, FirstErrorOfTheVisitorEndsTheVisit) {
  TestDisk disk;
  ExternalSorter sorter({scratch_ + "/bucket-", 1, 1 << 20, 1}, disk);
  const std::byte record{7};
  for (std::uint64_t key = 0; key < 5; ++key) ASSERT_TRUE(sorter.Add(key, {&record, 1}).ok());
  int visits = 0;
  EXPECT_EQ(sorter.Drain([&](auto) {
                   return ++visits == 3 ? absl::ResourceExhaustedError("full") : absl::OkStatus();
                 }).code(),
            absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(visits, 3);
}

}  // namespace
}  // namespace sae::data
