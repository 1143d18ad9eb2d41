#include "sae/data/prefetch_source.h"

#include <atomic>
#include <memory>

#include <gtest/gtest.h>

namespace sae::data {
namespace {

constexpr std::int64_t kD = 3;

/// Row r is r, r + 0.25, r + 0.5; counts who reads.
class Numbers final : public ActivationSource {
 public:
  std::int64_t d() const override { return kD; }
  absl::Status Next(std::span<float> rows) override {
    EXPECT_FALSE(busy_.exchange(true)) << "two threads in one source";
    for (std::size_t e = 0; e < rows.size(); ++e) {
      rows[e] = static_cast<float>(position_ + static_cast<std::int64_t>(e) / kD) +
                0.25F * static_cast<float>(static_cast<std::int64_t>(e) % kD);
    }
    position_ += static_cast<std::int64_t>(rows.size()) / kD;
    const bool fails = fail_from >= 0 && position_ > fail_from;
    busy_ = false;
    ++reads;
    return fails ? absl::DataLossError("shard 7: hash") : absl::OkStatus();
  }
  std::int64_t Position() const override { return position_; }
  absl::Status Seek(std::int64_t position) override {
    position_ = position;
    return absl::OkStatus();
  }
  std::atomic<int> reads{0};
  std::int64_t fail_from = -1;

 private:
  std::atomic<bool> busy_{false};
  std::int64_t position_ = 0;
};

float FirstOf(PrefetchSource& source, std::int64_t rows) {
  const auto view = source.View(rows, nullptr);
  EXPECT_TRUE(view.ok()) << view.status();
  EXPECT_EQ(view->size(), static_cast<std::size_t>(rows * kD));
  for (std::size_t e = 0; e < view->size(); ++e) {
    EXPECT_EQ((*view)[e],
              (*view)[0] + static_cast<float>(e / kD) + 0.25F * static_cast<float>(e % kD));
  }
  return (*view)[0];
}

TEST(PrefetchSource, GivesTheSourcesRowsAheadOrNot) {
  Numbers numbers;
  PrefetchSource source(numbers);
  for (const bool expects : {false, true}) {
    for (int t = 0; t < 50; ++t) {
      const std::int64_t position = source.Position();
      EXPECT_EQ(FirstOf(source, 4), static_cast<float>(position));
      EXPECT_EQ(source.Position(), position + 4);
      if (expects) source.Expect(source.Position(), 4);
    }
  }
}

// One of four parts of each batch of 8 rows.
TEST(PrefetchSource, ExpectsWhatIsFurtherOn) {
  Numbers numbers;
  PrefetchSource source(numbers);
  for (std::int64_t t = 0; t < 20; ++t) {
    const std::int64_t first = 8 * t + 2;
    ASSERT_TRUE(source.Seek(first).ok());
    EXPECT_EQ(FirstOf(source, 2), static_cast<float>(first));
    source.Expect(first + 8, 2);
  }
  EXPECT_LE(numbers.reads, 21);  // nothing twice
}

TEST(PrefetchSource, WrongGuessesAreDropped) {
  Numbers numbers;
  PrefetchSource source(numbers);
  source.Expect(100, 4);
  EXPECT_EQ(FirstOf(source, 4), 0);
  source.Expect(4, 7);
  EXPECT_EQ(FirstOf(source, 4), 4) << "another number of rows";
  source.Expect(8, 4);
  ASSERT_TRUE(source.Seek(20).ok());
  EXPECT_EQ(source.Position(), 20);
  EXPECT_EQ(FirstOf(source, 2), 20);
  std::vector<float> rows(2 * kD);
  ASSERT_TRUE(source.Next(rows).ok());
  EXPECT_EQ(rows[0], 22);
  std::vector<float> part(2);
  EXPECT_EQ(source.Next(part).code(), absl::StatusCode::kInvalidArgument);
}

// The batch before is still given out; the one that fails says so, and does not move on.
TEST(PrefetchSource, AnErrorComesWithItsBatch) {
  Numbers numbers;
  numbers.fail_from = 8;
  PrefetchSource source(numbers);
  EXPECT_EQ(FirstOf(source, 4), 0);
  source.Expect(4, 4);
  EXPECT_EQ(FirstOf(source, 4), 4);
  source.Expect(8, 4);
  const auto bad = source.View(4, nullptr);
  EXPECT_EQ(bad.status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(source.Position(), 8);
}

TEST(PrefetchSource, BuffersAreMadeOnce) {
  Numbers numbers;
  PrefetchSource source(numbers);
  const float* seen[2] = {nullptr, nullptr};
  for (int t = 0; t < 8; ++t) {
    const float* now = source.View(4, nullptr)->data();
    if (t >= 2) {
      EXPECT_EQ(now, seen[t % 2]) << t;
    }
    seen[t % 2] = now;
    source.Expect(source.Position(), 4);
  }
}

TEST(PrefetchSource, StopsWithABatchReadAheadOrUnderWay) {
  for (int t = 0; t < 50; ++t) {
    Numbers numbers;
    PrefetchSource source(numbers);
    EXPECT_EQ(FirstOf(source, 4), 0);
    source.Expect(4, 4);
  }
}

}  // namespace
}  // namespace sae::data
