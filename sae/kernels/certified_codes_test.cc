// Certified EncodeAbove and EncodeLargest against the plain loop over ReferenceDot.
#include <cmath>

#include <gtest/gtest.h>

#include "sae/kernels/certified.h"
#include "sae/kernels/certified_test_data.h"

namespace sae::kernels {
namespace {

using testing::Bits;
using testing::Kind;
using testing::kKinds;
using testing::Make;
using testing::PlainReference;
using testing::Problem;
using testing::Shape;

constexpr float kInfinity = std::numeric_limits<float>::infinity();

/// A prepared screen for one problem.
struct Rig {
  Rig(EncodeInput<float>& input, bool bf16, int threads)
      : pool(threads), screen(input.latents, input.d, bf16) {
    screen.Prepare(input.w, pool);
    screen.PrepareTokens(input.x, input.tokens, pool);
    input.screen = &screen;
  }
  ThreadPool pool;
  Screen screen;
  EncodeWorkspace<float> workspace;
  Codes<float> codes;
};

/// Everything above its bound by the reference, CSR.
Codes<float> PlainAbove(const EncodeInput<float>& input, const float* lower, float floor) {
  Codes<float> codes;
  codes.Clear(input.tokens, input.latents);
  for (std::int64_t b = 0; b < input.tokens; ++b) {
    for (std::int64_t i = 0; i < input.latents; ++i) {
      const float z = PlainReference(input, b, i);
      if (!(z > (lower == nullptr ? floor : lower[i]))) continue;
      codes.ids.push_back(static_cast<std::int32_t>(i));
      codes.values.push_back(z);
    }
    codes.indptr[static_cast<std::size_t>(b) + 1] = static_cast<std::int64_t>(codes.ids.size());
  }
  return codes;
}

void ExpectSame(const Codes<float>& codes, const Codes<float>& expected) {
  ASSERT_EQ(codes.tokens, expected.tokens);
  ASSERT_EQ(codes.latents, expected.latents);
  ASSERT_EQ(codes.indptr, expected.indptr);
  ASSERT_EQ(codes.ids, expected.ids);
  for (std::size_t e = 0; e < expected.values.size(); ++e)
    ASSERT_EQ(Bits(codes.values[e]), Bits(expected.values[e])) << e;
}

/// A bound that about `share` of all values exceed; one of the values, so there are ties with it.
float FloorFor(const EncodeInput<float>& input, double share) {
  std::vector<float> all = PlainAbove(input, nullptr, -kInfinity).values;
  const auto at = static_cast<std::ptrdiff_t>(share * static_cast<double>(all.size() - 1));
  std::nth_element(all.begin(), all.begin() + at, all.end(), std::greater<float>());
  return all[static_cast<std::size_t>(at)];
}

const Shape kShapes[] = {{3, 40, 5, 1}, {1, 1, 1, 1}, {60, 1200, 24, 1}, {520, 530, 17, 1}};

TEST(CertifiedAbove, EqualsThePlainLoopOverTheReferenceBitForBit) {
  for (const Kind kind : kKinds) {
    for (const Shape& s : kShapes) {
      for (const double share : {0.01, 0.15, 0.9}) {  // sparse, near the dense path, dense
        SCOPED_TRACE(::testing::Message()
                     << "kind " << static_cast<int>(kind) << " n " << s.latents << " " << share);
        Problem<float> problem = Make(kind, s);
        problem.input.scale = 0.37F;
        const float floor = FloorFor(problem.input, share);
        const Codes<float> expected = PlainAbove(problem.input, nullptr, floor);
        for (const bool bf16 : {true, false}) {
          Rig rig(problem.input, bf16, 2);
          ASSERT_TRUE(EncodeAbove<float>(problem.input, nullptr, floor, &rig.workspace, &rig.codes,
                                         rig.pool));
          ExpectSame(rig.codes, expected);
        }
      }
    }
  }
}

// Thresholds laid on values of single tokens: for each, one pre-activation equals it exactly, or is
// one unit in the last place to either side.
TEST(CertifiedAbove, BoundsPerLatentAreExactAtTheEdge) {
  for (const Kind kind : kKinds) {
    const Shape s{50, 1100, 24, 1};
    SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(kind));
    Problem<float> problem = Make(kind, s);
    std::vector<float> lower(static_cast<std::size_t>(s.latents));
    for (std::int64_t i = 0; i < s.latents; ++i) {
      const float z = PlainReference(problem.input, i % s.tokens, i);
      lower[static_cast<std::size_t>(i)] =
          i % 3 == 0 ? z : std::nextafter(z, i % 3 == 1 ? kInfinity : -kInfinity);
    }
    lower[5] = kInfinity;
    lower[6] = -kInfinity;
    const Codes<float> expected = PlainAbove(problem.input, lower.data(), 0);
    for (const bool bf16 : {true, false}) {
      Rig rig(problem.input, bf16, 3);
      ASSERT_TRUE(EncodeAbove<float>(problem.input, lower.data(), 0.0F, &rig.workspace, &rig.codes,
                                     rig.pool));
      ExpectSame(rig.codes, expected);
    }
  }
}

TEST(CertifiedAbove, FewCandidatesBesideTheResult) {
  const Shape s{64, 4096, 64, 1};
  Problem<float> problem = Make(Kind::kStored, s);
  const float floor = FloorFor(problem.input, 0.01);
  Rig rig(problem.input, true, 1);
  ASSERT_TRUE(
      EncodeAbove<float>(problem.input, nullptr, floor, &rig.workspace, &rig.codes, rig.pool));
  const CertifiedCounts counts = LastCounts(rig.workspace);
  EXPECT_GE(counts.candidates, rig.codes.nnz());
  EXPECT_LT(counts.candidates, rig.codes.nnz() * 5 / 4);
  EXPECT_EQ(counts.whole, 0);
}

TEST(CertifiedAbove, NanIsReported) {
  const Shape s{5, 600, 8, 1};
  constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
  for (int where = 0; where < 4; ++where) {
    Problem<float> problem = Make(Kind::kRandom, s);
    std::vector<float> lower(static_cast<std::size_t>(s.latents), 2.0F);
    if (where == 0) problem.x[9] = kNan;
    if (where == 1) problem.w[599 * 8 + 2] = kNan;
    if (where == 2) problem.c[3] = kNan;
    if (where == 3) lower[599] = kNan;
    Rig rig(problem.input, true, 2);
    EXPECT_FALSE(
        EncodeAbove<float>(problem.input, lower.data(), 0.0F, &rig.workspace, &rig.codes, rig.pool))
        << where;
    if (where == 3) continue;
    EXPECT_FALSE(EncodeLargest(problem.input, 20, 0.0F, &rig.workspace, &rig.codes, rig.pool))
        << where;
  }
}

struct Entry {
  float value;
  std::int32_t token, id;
  friend bool operator<(const Entry& a, const Entry& b) {
    if (a.value != b.value) return a.value > b.value;
    return a.token != b.token ? a.token < b.token : a.id < b.id;
  }
};

std::vector<Entry> Entries(const Codes<float>& codes, std::int64_t first_latent = 0) {
  std::vector<Entry> out;
  for (std::int64_t b = 0; b < codes.tokens; ++b) {
    for (std::int64_t e = codes.indptr[static_cast<std::size_t>(b)];
         e < codes.indptr[static_cast<std::size_t>(b) + 1]; ++e) {
      const auto at = static_cast<std::size_t>(e);
      out.push_back({codes.values[at], static_cast<std::int32_t>(b),
                     static_cast<std::int32_t>(codes.ids[at] + first_latent)});
    }
  }
  return out;
}

TEST(CertifiedLargest, HoldsTheFirstOfTheBatchBitForBit) {
  for (const Kind kind : kKinds) {
    for (const Shape& s : kShapes) {
      Problem<float> problem = Make(kind, s);
      std::vector<Entry> expected = Entries(PlainAbove(problem.input, nullptr, 0));
      std::sort(expected.begin(), expected.end());
      const auto positive = static_cast<std::int64_t>(expected.size());
      for (const std::int64_t count : {std::int64_t{1}, s.tokens * 3, positive / 2, positive + 1}) {
        if (count < 1) continue;
        for (const bool bf16 : {true, false}) {
          SCOPED_TRACE(::testing::Message() << "kind " << static_cast<int>(kind) << " n "
                                            << s.latents << " count " << count);
          Rig rig(problem.input, bf16, 3);
          ASSERT_TRUE(
              EncodeLargest(problem.input, count, 0.0F, &rig.workspace, &rig.codes, rig.pool));
          for (std::int64_t b = 0; b < s.tokens; ++b) {
            const auto at = static_cast<std::size_t>(b);
            ASSERT_TRUE(std::is_sorted(rig.codes.ids.begin() + rig.codes.indptr[at],
                                       rig.codes.ids.begin() + rig.codes.indptr[at + 1]));
          }
          std::vector<Entry> found = Entries(rig.codes);
          std::sort(found.begin(), found.end());
          const auto wanted = static_cast<std::size_t>(std::min(count, positive));
          ASSERT_GE(found.size(), wanted);
          if (positive <= count) {
            ASSERT_EQ(found.size(), wanted);
          }
          for (std::size_t e = 0; e < wanted; ++e) {
            ASSERT_EQ(found[e].token, expected[e].token) << e;
            ASSERT_EQ(found[e].id, expected[e].id) << e;
            ASSERT_EQ(Bits(found[e].value), Bits(expected[e].value)) << e;
          }
        }
      }
    }
  }
}

TEST(CertifiedLargest, FloorsAreExact) {
  const Shape s{60, 900, 24, 1};
  for (const Kind kind : {Kind::kRandom, Kind::kNearTies, Kind::kTies}) {
    Problem<float> problem = Make(kind, s);
    const float floor = FloorFor(problem.input, 0.02);
    ASSERT_GT(floor, 0);
    Rig rig(problem.input, true, 2);
    ASSERT_TRUE(EncodeLargest(problem.input, 1 << 20, floor, &rig.workspace, &rig.codes, rig.pool));
    ExpectSame(rig.codes, PlainAbove(problem.input, nullptr, floor));
  }
}

// The cut over shards, each with its own screen, is that of one.
TEST(CertifiedLargest, ShardsTogetherHoldWhatOneDoesAtOneTwoAndFour) {
  const Shape s{40, 1280, 24, 1};
  const std::int64_t count = 40 * 16;
  for (const Kind kind : {Kind::kRandom, Kind::kNearTies, Kind::kTies}) {
    Problem<float> whole = Make(kind, s);
    std::vector<Entry> expected = Entries(PlainAbove(whole.input, nullptr, 0));
    std::sort(expected.begin(), expected.end());
    for (const std::int64_t shards : {1, 2, 4}) {
      std::vector<Entry> found;
      for (std::int64_t p = 0; p < shards; ++p) {
        EncodeInput<float> input = whole.input;
        input.latents = s.latents / shards;
        input.first_latent = p * input.latents;
        input.w += input.first_latent * s.d;
        input.c += input.first_latent;
        Rig rig(input, true, static_cast<int>(p % 3) + 1);
        ASSERT_TRUE(EncodeLargest(input, count, 0.0F, &rig.workspace, &rig.codes, rig.pool));
        const std::vector<Entry> part = Entries(rig.codes, input.first_latent);
        found.insert(found.end(), part.begin(), part.end());
      }
      std::sort(found.begin(), found.end());
      for (std::size_t e = 0; e < static_cast<std::size_t>(count); ++e) {
        ASSERT_EQ(found[e].token, expected[e].token) << "P=" << shards;
        ASSERT_EQ(found[e].id, expected[e].id) << "P=" << shards;
        ASSERT_EQ(Bits(found[e].value), Bits(expected[e].value)) << "P=" << shards;
      }
    }
  }
}

TEST(CertifiedLargest, FewCandidatesBesideTheResult) {
  const Shape s{256, 2048, 64, 1};
  const std::int64_t count = 256 * 16;
  Problem<float> problem = Make(Kind::kStored, s);
  Rig rig(problem.input, true, 2);
  ASSERT_TRUE(EncodeLargest(problem.input, count, 0.0F, &rig.workspace, &rig.codes, rig.pool));
  EXPECT_LT(LastCounts(rig.workspace).candidates, 2 * count);
  EXPECT_LE(rig.codes.nnz(), 2 * count);
}

}  // namespace
}  // namespace sae::kernels
