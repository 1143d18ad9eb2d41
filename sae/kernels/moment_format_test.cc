#include "sae/kernels/moment_format.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <set>
#include <vector>

#include <gtest/gtest.h>

namespace sae::kernels {
namespace {

constexpr Moment kBoth[] = {Moment::kFirst, Moment::kSecond};
constexpr auto kStochastic = MomentRounding::kStochastic;
constexpr auto kNearest = MomentRounding::kNearest;

std::uint32_t Codes(Moment moment) { return 1U << CodeBits(moment); }

/// Distance of the two codes around `ratio`.
double Gap(double ratio, Moment moment) {
  for (std::uint32_t c = 1; c < Codes(moment); ++c) {
    const double high = DecodeMagnitude(c, moment);
    if (high >= ratio) return high - static_cast<double>(DecodeMagnitude(c - 1, moment));
  }
  return 0;
}

TEST(RoundingKey, DependsOnEverythingItIsMadeOf) {
  std::set<std::pair<std::uint32_t, std::uint32_t>> keys;
  for (const std::uint64_t seed : {0, 1}) {
    for (const std::uint64_t step : {1, 2}) {
      for (const std::uint64_t latent : {0, 1, 2}) {
        for (const MomentMatrix matrix : {MomentMatrix::kEncoder, MomentMatrix::kDecoder}) {
          const RoundingKey key = RoundingKeyOf(seed, step, latent, matrix);
          keys.insert({key.a, key.b});
        }
      }
    }
  }
  EXPECT_EQ(keys.size(), 24U);
}

// The frequency of each bit and of each pair of bits of neighbouring columns, and the correlation
// of m's and v's numbers: within six standard deviations of fair coins.
TEST(RandomBits, AreFairAndIndependent) {
  constexpr int kRows = 64, kColumns = 1024;
  constexpr double kCount = kRows * kColumns;
  std::vector<double> ones(32, 0.0), pairs(32, 0.0);
  double first = 0, second = 0, product = 0;
  for (int row = 0; row < kRows; ++row) {
    const RoundingKey key =
        RoundingKeyOf(7, 3, static_cast<std::uint64_t>(row), MomentMatrix::kDecoder);
    std::uint32_t before = RandomBits(key, kColumns);
    for (std::uint32_t j = 0; j < kColumns; ++j) {
      const std::uint32_t bits = RandomBits(key, j);
      for (std::uint32_t b = 0; b < 32; ++b) {
        ones[b] += (bits >> b) & 1U;
        pairs[b] += ((bits ^ before) >> b) & 1U;
      }
      before = bits;
      const double m = ((bits & 0xffffU) + 0.5) / 65536 - 0.5;
      const double v = ((bits >> 16) + 0.5) / 65536 - 0.5;
      first += m;
      second += v;
      product += m * v;
    }
  }
  const double bound = 6 * std::sqrt(kCount / 4);
  for (std::size_t b = 0; b < 32; ++b) {
    EXPECT_NEAR(ones[b], kCount / 2, bound) << b;
    EXPECT_NEAR(pairs[b], kCount / 2, bound) << b;
  }
  EXPECT_NEAR(first, 0, 6 * std::sqrt(kCount / 12));
  EXPECT_NEAR(second, 0, 6 * std::sqrt(kCount / 12));
  EXPECT_NEAR(product, 0, 6 * std::sqrt(kCount / 144));
}

// Over all 65,536 random numbers the mean is exact: as many round up as the rest of the mantissa
// says.
TEST(EncodeBf16, IsUnbiasedOverAllRandomNumbers) {
  for (const float value : {1.0F, 1.00001F, 1.2345F, -3.14159F, 0x1.fffffep-1F, 3e-30F, -7e25F}) {
    double sum = 0;
    for (std::uint32_t r = 0; r < 65536; ++r)
      sum += static_cast<double>(DecodeBf16(EncodeBf16(value, r)));
    EXPECT_EQ(sum / 65536, static_cast<double>(value)) << value;
  }
}

TEST(EncodeBf16, RoundsToANeighbourAndKeepsZeros) {
  for (const std::uint32_t random : {0U, 1U, 0x8000U, 0xffffU}) {
    EXPECT_EQ(FloatBits(DecodeBf16(EncodeBf16(0.0F, random))), 0U);
    EXPECT_EQ(FloatBits(DecodeBf16(EncodeBf16(-0.0F, random))), 0x80000000U);
    for (const float value : {0.7F, -0.7F, 1e-20F, 1e20F}) {
      const float back = DecodeBf16(EncodeBf16(value, random));
      EXPECT_LT(std::abs(back - value), 0x1.0p-7F * std::abs(value));
      EXPECT_EQ(EncodeBf16(back, random), EncodeBf16(back, 0));  // exact values stay
    }
    const float largest = std::numeric_limits<float>::max();
    EXPECT_TRUE(std::isfinite(DecodeBf16(EncodeBf16(largest, random))));
    EXPECT_TRUE(std::isinf(DecodeBf16(EncodeBf16(2 * largest, random))));
    EXPECT_TRUE(std::isnan(DecodeBf16(EncodeBf16(FloatOfBits(0x7f800001U), random))));
  }
}

TEST(EncodeBf16, MiddleIsToNearest) {
  for (std::uint32_t low = 0; low < 65536; ++low) {
    if (low == 0x8000U) continue;
    const float value = FloatOfBits(0x3f820000U | low);
    ASSERT_EQ(EncodeBf16(value, RandomOf({}, 0, Moment::kFirst, kNearest)), FloatToBf16(value));
  }
}

TEST(Map8, RisesFromZeroToOneAndEveryCodeComesBack) {
  for (const Moment moment : kBoth) {
    EXPECT_EQ(DecodeMagnitude(0, moment), 0.0F);
    EXPECT_EQ(DecodeMagnitude(1, moment), moment == Moment::kFirst ? 0x1.0p-24F : 0x1.0p-28F);
    EXPECT_EQ(DecodeMagnitude(Codes(moment) - 1, moment), 1.0F);
    for (std::uint32_t c = 1; c < Codes(moment); ++c) {
      EXPECT_GT(DecodeMagnitude(c, moment), DecodeMagnitude(c - 1, moment)) << c;
    }
    for (const float scale : {1.0F, 3.0F, 0x1.0p-126F, 1.7e-19F, 0.1F, 7e37F}) {
      for (std::uint32_t c = 0; c < Codes(moment); ++c) {
        const float value = DecodeMagnitude(c, moment) * scale;
        if (c > 0 && value < 0x1.0p-126F) continue;  // subnormal: has lost bits
        for (const std::uint32_t random : {0U, 1U, 0x8000U, 0xffffU}) {
          ASSERT_EQ(EncodeMagnitude(value, InverseScale(scale), moment, random), c)
              << "scale " << scale << " random " << random;
        }
      }
    }
  }
}

// Larger values never get a smaller code, whatever the random number.
TEST(Map8, EncodingIsMonotone) {
  for (const Moment moment : kBoth) {
    for (const std::uint32_t random : {0U, 12345U, 0x8000U, 0xffffU}) {
      std::uint32_t before = 0;
      for (double e = -33; e <= 0; e += 1.0 / 1024) {
        const auto value = static_cast<float>(std::exp2(e));
        const std::uint32_t code = EncodeMagnitude(value, 1.0F, moment, random);
        ASSERT_GE(code, before) << value;
        before = code;
      }
      EXPECT_EQ(before, Codes(moment) - 1);
    }
  }
}

// Relative distances: at most 1/32 (v) and 1/16 (m) in the four upper octaves, twice that in the
// next four, and so on down to whole octaves; rounding to nearest errs by half of them.
TEST(Map8, ErrorsAreBoundedByGroup) {
  for (const Moment moment : kBoth) {
    const int groups = CodeBits(moment) - 2;  // those with a code an octave or more
    for (double e = -4 * groups + 0.01; e < 0; e += 1.0 / 512) {
      const double value = std::exp2(e);
      const int group = static_cast<int>(-e / 4);
      const double relative = std::exp2(group + (moment == Moment::kFirst ? -4 : -5));
      EXPECT_LE(Gap(value, moment), value * relative * 1.0001) << e;
      const auto ratio = static_cast<float>(value);
      const double back = DecodeMagnitude(EncodeMagnitude(ratio, 1.0F, moment, 0x8000U), moment);
      EXPECT_LE(std::abs(back - value), Gap(value, moment) * 0.50002) << e;
    }
  }
}

TEST(Map8, IsUnbiasedOverAllRandomNumbers) {
  for (const Moment moment : kBoth) {
    for (const float value : {0.999F, 0.51F, 0.3F, 0.0701F, 3.3e-3F, 1.7e-4F, 2.9e-6F, 1.1e-7F}) {
      double sum = 0;
      for (std::uint32_t r = 0; r < 65536; ++r)
        sum +=
            static_cast<double>(DecodeMagnitude(EncodeMagnitude(value, 1.0F, moment, r), moment));
      EXPECT_NEAR(sum / 65536, value, Gap(value, moment) * 0x1.0p-15) << value;
    }
  }
}

// With the counter's numbers instead of all: within six standard deviations of the mean of so many
// draws between two neighbours.
TEST(Rounding, IsUnbiasedOverLatentsAndColumns) {
  constexpr std::int64_t kColumns = 256, kLatents = 256;
  constexpr double kCount = kColumns * kLatents;
  for (const Moment moment : kBoth) {
    for (const float value : {0.3F, 0.041F, 0.77F}) {
      std::vector<float> row(kColumns, value), back(kColumns);
      for (std::int64_t j = 0; j < kColumns; j += kMomentBlock)
        row[static_cast<std::size_t>(j)] = 1;
      std::vector<std::uint16_t> halves(kColumns);
      std::vector<std::uint8_t> codes(kColumns);
      std::vector<float> scales(static_cast<std::size_t>(MomentBlocks(kColumns)));
      double sum16 = 0, sum8 = 0;
      for (std::uint64_t i = 0; i < kLatents; ++i) {
        const RoundingKey key = RoundingKeyOf(3, 11, i, MomentMatrix::kEncoder);
        EncodeBf16Row(0, kColumns, row.data(), key, moment, kStochastic, halves.data());
        DecodeBf16Row(kColumns, halves.data(), back.data());
        for (std::size_t j = 1; j < kMomentBlock; ++j) sum16 += static_cast<double>(back[j]);
        Encode8Row(0, kColumns, row.data(), key, moment, kStochastic, codes.data(), scales.data());
        Decode8Row(kColumns, codes.data(), scales.data(), moment, back.data());
        for (std::size_t j = 0; j < kColumns; ++j) {
          if (j % kMomentBlock == 0) {
            ASSERT_EQ(back[j], 1.0F);
          } else {
            sum8 += static_cast<double>(back[j]);
          }
        }
      }
      const double gap16 = std::exp2(std::floor(std::log2(static_cast<double>(value))) - 7);
      const double count16 = kLatents * (kMomentBlock - 1.0);
      EXPECT_NEAR(sum16 / count16, value, 6 * gap16 / 2 / std::sqrt(count16));
      const double gap8 = Gap(value, moment);
      const double count8 = kCount - kLatents * MomentBlocks(kColumns);
      EXPECT_NEAR(sum8 / count8, value, gap8 * (3 / std::sqrt(count8) + 0x1.0p-15));
    }
  }
}

TEST(Encode8Row, KeepsZerosSignsAndTheLargestOfEachBlock) {
  constexpr std::int64_t kColumns = 150;  // two blocks and a part
  std::vector<float> row(kColumns, 0.0F), back(kColumns);
  row[3] = -2.5F;
  row[4] = 1.0F;
  row[5] = -1e-9F;
  row[149] = 1e-12F;
  std::vector<std::uint8_t> codes(kColumns);
  std::vector<float> scales(3);
  const RoundingKey key = RoundingKeyOf(1, 1, 1, MomentMatrix::kDecoder);
  Encode8Row(0, kColumns, row.data(), key, Moment::kFirst, kStochastic, codes.data(),
             scales.data());
  EXPECT_EQ(scales, (std::vector<float>{2.5F, 0.0F, 1e-12F}));
  Decode8Row(kColumns, codes.data(), scales.data(), Moment::kFirst, back.data());
  for (std::size_t j = 0; j < kColumns; ++j) {
    if (row[j] == 0) {
      EXPECT_EQ(FloatBits(back[j]), 0U) << j;
    }
  }
  EXPECT_EQ(back[3], -2.5F);
  EXPECT_NEAR(back[4], 1.0F, 2.5F * Gap(0.4, Moment::kFirst));
  EXPECT_EQ(back[149], 1e-12F);
}

TEST(Encode8Row, NeverStoresASmallSecondMomentAsZero) {
  std::vector<float> row(kMomentBlock, 1e-30F);
  row[0] = 1;
  std::vector<std::uint8_t> codes(kMomentBlock);
  float scale = 0;
  for (std::uint64_t i = 0; i < 64; ++i) {
    for (const MomentRounding rounding : {kStochastic, kNearest}) {
      Encode8Row(0, kMomentBlock, row.data(), RoundingKeyOf(1, 1, i, MomentMatrix::kEncoder),
                 Moment::kSecond, rounding, codes.data(), &scale);
      EXPECT_EQ(std::count(codes.begin(), codes.end(), 1), kMomentBlock - 1);
    }
  }
}

TEST(Encode8Row, WhatIsNotFiniteComesBackAsNan) {
  for (const float bad :
       {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
    for (const Moment moment : kBoth) {
      std::vector<float> row(kMomentBlock, 0.5F), back(kMomentBlock);
      row[9] = bad;
      std::vector<std::uint8_t> codes(kMomentBlock);
      float scale = 0;
      Encode8Row(0, kMomentBlock, row.data(), {}, moment, kStochastic, codes.data(), &scale);
      Decode8Row(kMomentBlock, codes.data(), &scale, moment, back.data());
      EXPECT_TRUE(std::isnan(back[9]));
    }
  }
}

TEST(Rows, SegmentsGiveTheBitsOfTheWholeRow) {
  constexpr std::int64_t kColumns = 200;
  std::vector<float> row(kColumns);
  for (std::size_t j = 0; j < row.size(); ++j) row[j] = std::sin(static_cast<float>(j * j));
  const RoundingKey key = RoundingKeyOf(1, 2, 3, MomentMatrix::kDecoder);
  std::vector<std::uint8_t> whole(kColumns), parts(kColumns);
  std::vector<float> scales(4), part_scales(4);
  std::vector<std::uint16_t> whole16(kColumns), parts16(kColumns);
  Encode8Row(0, kColumns, row.data(), key, Moment::kFirst, kStochastic, whole.data(),
             scales.data());
  EncodeBf16Row(0, kColumns, row.data(), key, Moment::kFirst, kStochastic, whole16.data());
  for (const auto& [first, count] : {std::pair<std::int64_t, std::int64_t>{0, 128}, {128, 72}}) {
    Encode8Row(first, count, row.data() + first, key, Moment::kFirst, kStochastic,
               parts.data() + first, part_scales.data() + first / kMomentBlock);
    EncodeBf16Row(first, count, row.data() + first, key, Moment::kFirst, kStochastic,
                  parts16.data() + first);
  }
  EXPECT_EQ(parts, whole);
  EXPECT_EQ(part_scales, scales);
  EXPECT_EQ(parts16, whole16);
}

/// v after 2,000 steps with g^2 = 0 but in column 0, which keeps its block's scale: mean over the
/// other columns of 64 rows, as a share of the start. Exactly: 0.999^2000 = 0.135.
double Decayed(MomentFormat format, MomentRounding rounding) {
  double sum = 0;
  for (std::uint64_t latent = 0; latent < 64; ++latent) {
    std::vector<float> v(kMomentBlock, 0.3F);
    v[0] = 1;
    std::vector<std::uint16_t> halves(kMomentBlock);
    std::vector<std::uint8_t> codes(kMomentBlock);
    float scale = 0;
    for (std::uint64_t t = 1; t <= 2000; ++t) {
      const RoundingKey key = RoundingKeyOf(5, t, latent, MomentMatrix::kEncoder);
      for (std::size_t j = 1; j < v.size(); ++j) v[j] *= 0.999F;
      if (format == MomentFormat::kBf16) {
        EncodeBf16Row(0, kMomentBlock, v.data(), key, Moment::kSecond, rounding, halves.data());
        DecodeBf16Row(kMomentBlock, halves.data(), v.data());
      } else {
        Encode8Row(0, kMomentBlock, v.data(), key, Moment::kSecond, rounding, codes.data(), &scale);
        Decode8Row(kMomentBlock, codes.data(), &scale, Moment::kSecond, v.data());
      }
    }
    for (std::size_t j = 1; j < v.size(); ++j) sum += static_cast<double>(v[j]);
  }
  return sum / (64 * (kMomentBlock - 1)) / 0.3;
}

TEST(Rounding, SecondMomentsDecayInTheMeanAndStallToNearest) {
  const double exact = std::pow(0.999, 2000);
  for (const MomentFormat format : {MomentFormat::kBf16, MomentFormat::kInt8}) {
    // A step removes 1e-3 v of a gap of at most v / 128 or, in the second group of 8 bits, v / 16:
    // the variance gained is below 1e-3 v gap, what was gained decays at twice the rate. So below
    // v0^2 gap' exp(-2000e-3), with gap' the gap's share of v; 4,032 columns.
    const double gap = format == MomentFormat::kBf16 ? 1.0 / 128 : 1.0 / 16;
    const double deviation = std::sqrt(gap * exact / 4032);
    EXPECT_NEAR(Decayed(format, kStochastic), exact, 6 * deviation);
    EXPECT_GT(Decayed(format, kNearest), 0.98);
  }
}

}  // namespace
}  // namespace sae::kernels
