#include <numeric>

#include <gtest/gtest.h>

#include "sae/kernels/certified.h"
#include "sae/kernels/certified_test_data.h"

namespace sae::kernels {
namespace {

using testing::Bits;
using testing::Kind;
using testing::kKinds;
using testing::Make;
using testing::Problem;
using testing::ReferenceOrder;
using testing::Shape;

/// Certified top-k of the problem with a screen of its own.
TopK<float> Select(EncodeInput<float> input, std::int64_t k, bool bf16, int threads,
                   TopKOrder order = TopKOrder::kByValue, CertifiedCounts* counts = nullptr) {
  ThreadPool pool(threads);
  Screen screen(input.latents, input.d, bf16);
  screen.Prepare(input.w, pool);
  screen.PrepareTokens(input.x, input.tokens, pool);
  input.screen = &screen;
  EncodeWorkspace<float> workspace;
  TopK<float> top;
  EXPECT_TRUE(EncodeTopK(input, k, &workspace, &top, pool, order));
  if (counts != nullptr) *counts = LastCounts(workspace);
  return top;
}

void ExpectReference(const EncodeInput<float>& input, const TopK<float>& top) {
  for (std::int64_t b = 0; b < input.tokens; ++b) {
    const std::vector<Scored<float>> expected = ReferenceOrder(input, b);
    for (std::int64_t j = 0; j < top.width; ++j) {
      const auto at = static_cast<std::size_t>(b * top.width + j);
      const Scored<float>& winner = expected[static_cast<std::size_t>(j)];
      ASSERT_EQ(top.ids[at], winner.id) << "token " << b << " place " << j;
      ASSERT_EQ(Bits(top.values[at]), Bits(winner.value)) << "token " << b << " place " << j;
    }
  }
}

const Shape kShapes[] = {{3, 40, 5, 7},      {1, 1, 1, 1},       {70, 700, 24, 32},
                         {515, 1100, 16, 8}, {9, 2600, 33, 600}, {4, 513, 100, 513}};

TEST(CertifiedTopK, EqualsThePlainLoopOverTheReferenceBitForBit) {
  for (const Kind kind : kKinds) {
    for (const Shape& s : kShapes) {
      SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(kind) << " n " << s.latents);
      Problem<float> problem = Make(kind, s);
      problem.input.first_latent = 1000;
      for (const float scale : {1.0F, 0.37F}) {
        problem.input.scale = scale;
        for (const bool bf16 : {true, false})
          ExpectReference(problem.input, Select(problem.input, s.k, bf16, 2));
      }
    }
  }
}

TEST(CertifiedTopK, ExtremeScalesChangeNothingButTheMargin) {
  const Shape s{40, 600, 20, 16};
  for (const float scale : {1e-38F, 1e-20F, -1.0F, 0.0F, 1e20F, 1e30F}) {
    for (const Kind kind : {Kind::kRandom, Kind::kNearTies, Kind::kSubnormal}) {
      SCOPED_TRACE(::testing::Message() << "scale " << scale);
      Problem<float> problem = Make(kind, s);
      problem.input.scale = scale;
      ExpectReference(problem.input, Select(problem.input, s.k, true, 1));
      ExpectReference(problem.input, Select(problem.input, s.k, false, 1));
    }
  }
}

// A latent whose true value is above the k-th by one unit in the last place, and whose bf16 rows
// say the opposite: rounding moves its row down and its rival's up.
TEST(CertifiedTopK, DecidesAgainstTheScreenInsideTheMargin) {
  const std::int64_t d = 64;
  const std::int64_t n = 600;
  const Shape s{1, n, d, 1};
  std::vector<float> w(static_cast<std::size_t>(n * d), 0.0F);
  const std::vector<float> x(static_cast<std::size_t>(d), 1.0F);
  for (std::int64_t j = 0; j < d; ++j) {
    w[static_cast<std::size_t>(7 * d + j)] = 1 + 0x1p-8F - 0x1p-20F;    // rounds down to 1
    w[static_cast<std::size_t>(300 * d + j)] = 1 + 0x1p-8F + 0x1p-20F;  // rounds up to 1 + 2^-7
  }
  for (std::int64_t j = 0; j < 8; ++j) w[static_cast<std::size_t>(300 * d + j)] = 1;
  Problem<float> problem(s, x, w, std::vector<float>(static_cast<std::size_t>(n), 0.0F));
  const TopK<float> top = Select(problem.input, 1, true, 1);
  EXPECT_EQ(top.ids[0], 7);
  ExpectReference(problem.input, top);
}

TEST(CertifiedTopK, OrderByIdHasTheSameWinners) {
  const Shape s{20, 900, 30, 40};
  const Problem<float> problem = Make(Kind::kNearTies, s);
  TopK<float> by_value = Select(problem.input, s.k, true, 2);
  const TopK<float> by_id = Select(problem.input, s.k, true, 2, TopKOrder::kById);
  for (std::int64_t b = 0; b < s.tokens; ++b) {
    std::vector<Scored<float>> winners;
    for (std::int64_t j = b * s.k; j < (b + 1) * s.k; ++j) {
      const auto at = static_cast<std::size_t>(j);
      winners.push_back({by_value.values[at], by_value.ids[at]});
    }
    std::sort(winners.begin(), winners.end(),
              [](const auto& a, const auto& c) { return a.id < c.id; });
    for (std::size_t j = 0; j < winners.size(); ++j) {
      const std::size_t at = static_cast<std::size_t>(b * s.k) + j;
      EXPECT_EQ(by_id.ids[at], winners[j].id);
      EXPECT_EQ(Bits(by_id.values[at]), Bits(winners[j].value));
    }
  }
}

TEST(CertifiedTopK, ShardsTogetherSelectWhatOneDoesAtOneTwoAndFour) {
  const Shape s{33, 1280, 40, 24};
  for (const Kind kind : {Kind::kRandom, Kind::kNearTies, Kind::kTies}) {
    const Problem<float> whole = Make(kind, s);
    for (const std::int64_t shards : {1, 2, 4}) {
      std::vector<TopK<float>> parts;
      std::vector<Candidates<float>> offers;
      for (std::int64_t p = 0; p < shards; ++p) {
        EncodeInput<float> input = whole.input;
        input.latents = s.latents / shards;
        input.first_latent = p * input.latents;
        input.w += input.first_latent * s.d;
        input.c += input.first_latent;
        parts.push_back(Select(input, s.k, p % 2 == 0, 2));
      }
      for (const auto& part : parts)
        offers.push_back({part.values.data(), part.ids.data(), part.width});
      ThreadPool pool(1);
      std::vector<std::vector<Scored<float>>> won(static_cast<std::size_t>(s.tokens));
      for (int p = 0; p < shards; ++p) {
        std::vector<std::int32_t> counts(static_cast<std::size_t>(s.tokens));
        CountWinners(offers, s.tokens, s.k, p, counts.data(), pool);
        for (std::size_t b = 0; b < counts.size(); ++b) {
          for (std::int64_t j = 0; j < counts[b]; ++j) {
            const TopK<float>& part = parts[static_cast<std::size_t>(p)];
            const std::size_t at =
                b * static_cast<std::size_t>(part.width) + static_cast<std::size_t>(j);
            won[b].push_back({part.values[at], part.ids[at]});
          }
        }
      }
      for (std::int64_t b = 0; b < s.tokens; ++b) {
        auto& list = won[static_cast<std::size_t>(b)];
        std::sort(list.begin(), list.end(), Before<float>);
        const auto expected = ReferenceOrder(whole.input, b);
        ASSERT_EQ(list.size(), static_cast<std::size_t>(s.k));
        for (std::size_t j = 0; j < list.size(); ++j) {
          ASSERT_EQ(list[j].id, expected[j].id) << "P=" << shards;
          ASSERT_EQ(Bits(list[j].value), Bits(expected[j].value)) << "P=" << shards;
        }
      }
    }
  }
}

TEST(CertifiedTopK, PermutingLatentsPermutesTheSelection) {
  const Shape s{30, 1100, 32, 1100};
  const Problem<float> plain = Make(Kind::kNearTies, s);
  std::vector<std::int32_t> order(static_cast<std::size_t>(s.latents));
  std::iota(order.begin(), order.end(), 0);
  Random random(9);
  for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.Below(i)]);
  std::vector<float> w(plain.w.size());
  std::vector<float> c(plain.c.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    std::copy_n(plain.w.begin() + order[i] * s.d, s.d,
                w.begin() + static_cast<std::int64_t>(i) * s.d);
    c[i] = plain.c[static_cast<std::size_t>(order[i])];
  }
  const Problem<float> moved(s, plain.x, w, c);
  const TopK<float> a = Select(plain.input, 50, true, 2);
  const TopK<float> b = Select(moved.input, 50, true, 1);
  for (std::size_t at = 0; at < a.values.size(); ++at)
    ASSERT_EQ(Bits(a.values[at]), Bits(b.values[at]));
  ExpectReference(moved.input, b);
}

TEST(CertifiedTopK, ScreenAndThreadsChangeNoBit) {
  const Shape s{1030, 1500, 48, 20};
  const Problem<float> problem = Make(Kind::kOffset, s);
  const TopK<float> first = Select(problem.input, s.k, true, 1);
  for (const bool bf16 : {true, false}) {
    for (const int threads : {1, 3}) {
      const TopK<float> other = Select(problem.input, s.k, bf16, threads);
      EXPECT_EQ(other.values, first.values);
      EXPECT_EQ(other.ids, first.ids);
    }
  }
}

// One workspace and one screen over many steps: the weights change, batches grow and shrink.
TEST(CertifiedTopK, FollowsTheWeightsAndTheBatch) {
  ThreadPool pool(2);
  const Shape s{600, 800, 24, 10};
  Problem<float> problem = Make(Kind::kRandom, s);
  Screen screen(s.latents, s.d, true);
  EncodeWorkspace<float> workspace;
  TopK<float> top;
  for (const std::int64_t tokens : {600, 3, 520}) {
    for (float& v : problem.w) v = 0.5F - v;
    problem.input.tokens = tokens;
    problem.input.screen = &screen;
    screen.Prepare(problem.w.data(), pool);
    screen.PrepareTokens(problem.x.data(), tokens, pool);
    ASSERT_TRUE(EncodeTopK(problem.input, s.k, &workspace, &top, pool));
    ExpectReference(problem.input, top);
  }
}

TEST(CertifiedTopK, SubsetIsDecidedByTheReferenceToo) {
  const Shape s{70, 1100, 24, 30};
  Problem<float> problem = Make(Kind::kNearTies, s);
  ThreadPool pool(2);
  Screen screen(s.latents, s.d, true);
  screen.Prepare(problem.w.data(), pool);
  screen.PrepareTokens(problem.x.data(), s.tokens, pool);
  problem.input.screen = &screen;
  problem.input.scale = 0.37F;
  std::vector<std::int32_t> subset;
  for (std::int32_t i = 1; i < s.latents; i += (i % 3) + 1) subset.push_back(i);
  problem.input.subset = subset.data();
  problem.input.subset_size = static_cast<std::int64_t>(subset.size());
  EncodeWorkspace<float> workspace;
  TopK<float> top;
  ASSERT_TRUE(EncodeTopK(problem.input, s.k, &workspace, &top, pool));
  for (std::int64_t b = 0; b < s.tokens; ++b) {
    std::vector<Scored<float>> expected;
    for (const std::int32_t i : subset)
      expected.push_back({testing::PlainReference(problem.input, b, i), i});
    std::sort(expected.begin(), expected.end(), Before<float>);
    for (std::int64_t j = 0; j < s.k; ++j) {
      const auto at = static_cast<std::size_t>(b * s.k + j);
      ASSERT_EQ(top.ids[at], expected[static_cast<std::size_t>(j)].id);
      ASSERT_EQ(Bits(top.values[at]), Bits(expected[static_cast<std::size_t>(j)].value));
    }
  }
}

// The certificate must do its work: few candidates on plain data, whole rows where all latents tie.
TEST(CertifiedTopK, CandidatesAreFewUnlessEverythingTies) {
  const Shape s{64, 8192, 64, 32};
  CertifiedCounts counts;
  const Problem<float> random = Make(Kind::kStored, s);
  Select(random.input, s.k, true, 1, TopKOrder::kByValue, &counts);
  EXPECT_GE(counts.candidates, s.tokens * s.k);
  EXPECT_LT(counts.candidates, 2 * s.tokens * s.k);
  EXPECT_EQ(counts.whole, 0);
  const Problem<float> same = Make(Kind::kSame, s);
  Select(same.input, s.k, true, 1, TopKOrder::kByValue, &counts);
  EXPECT_EQ(counts.whole, s.tokens);
}

TEST(CertifiedTopK, NanIsReportedAndInfinityOrdered) {
  const Shape s{10, 600, 4, 3};
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  constexpr float kInfinity = std::numeric_limits<float>::infinity();
  ThreadPool pool(2);
  const auto run = [&](Problem<float>& problem, TopK<float>* top) {
    Screen screen(s.latents, s.d, true);
    screen.Prepare(problem.w.data(), pool);
    screen.PrepareTokens(problem.x.data(), s.tokens, pool);
    problem.input.screen = &screen;
    EncodeWorkspace<float> workspace;
    return EncodeTopK(problem.input, s.k, &workspace, top, pool);
  };
  TopK<float> top;
  for (const std::size_t at : {std::size_t{0}, std::size_t{599 * 4}}) {
    Problem<float> problem = Make(Kind::kRandom, s);
    problem.w[at] = kNan;
    EXPECT_FALSE(run(problem, &top));
  }
  Problem<float> bias = Make(Kind::kRandom, s);
  bias.c[17] = kNan;
  EXPECT_FALSE(run(bias, &top));
  Problem<float> token = Make(Kind::kRandom, s);
  token.x[5] = kNan;
  EXPECT_FALSE(run(token, &top));
  Problem<float> infinite = Make(Kind::kRandom, s);
  infinite.c[200] = kInfinity;
  infinite.c[7] = kInfinity;
  infinite.c[3] = -kInfinity;
  EXPECT_TRUE(run(infinite, &top));
  ExpectReference(infinite.input, top);
  EXPECT_EQ(top.ids[0], 7);
  EXPECT_EQ(top.ids[1], 200);
}

}  // namespace
}  // namespace sae::kernels
