// Sums by virtual blocks against their partners, and the property they are there for: a rank with
// one block computes the bits that a rank with all blocks has for it.
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_device_test_data.h"
#include "sae/kernels/device/virtual_blocks.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using device::VirtualBlocks;
using sae::testing::DeviceTest;
using sae::testing::ExpectBarriersNeeded;
using sae::testing::RunDeviceTest;
using testing::At;
using testing::HostCodes;
using testing::Normal;
using testing::SplitWeights;

/// Latents dealt to `count` blocks, as 7 i mod count.
struct HostBlocks {
  std::vector<std::uint8_t> block;
  std::vector<std::int32_t> members;
  int count = 0;
  std::int64_t latents = 0;

  HostBlocks(int blocks, std::int64_t each) : count(blocks), latents(each) {
    for (std::int64_t i = 0; i < blocks * each; ++i)
      block.push_back(static_cast<std::uint8_t>(7 * i % blocks));
    for (int v = 0; v < blocks; ++v) {
      for (std::int64_t i = 0; i < blocks * each; ++i) {
        if (block[At(i)] == v) members.push_back(static_cast<std::int32_t>(i));
      }
    }
  }
  VirtualBlocks view() const { return {count, latents, block.data(), members.data()}; }
  VirtualBlocks Upload(DeviceTest& t) const {
    return {count, latents, t.Upload(block, "block"), t.Upload(members, "members")};
  }
};

constexpr std::int64_t kTokens = 9;

/// Tokens 2 .. 2 + tokens of the codes, a range of latents.
void Decode(DeviceTest& t, std::int64_t d, bool joined, bool scaled) {
  const HostBlocks blocks(4, 6);
  HostCodes codes = testing::MakeCodes(1, kTokens, 24, 0.3, 2);
  const SplitWeights w(Normal<float>(2, 24 * d));
  const auto f = testing::PerEntry(3, codes), row_scale = Normal<float>(4, 24);
  device::DecodeBlocksParams p;
  p.codes = codes.view();
  p.f = f.data();
  p.w = w.view(joined);
  p.row_scale = scaled ? row_scale.data() : nullptr;
  p.blocks = blocks.view();
  p.first_latent = scaled ? 1 : 0;
  p.last_latent = scaled ? 20 : 24;
  p.first_token = 2;
  p.tokens = 5;
  p.d = d;
  std::vector<float> want(At(4 * 5 * d), -1);
  p.parts = want.data();
  plain::DecodeBlocks(p);
  p.codes = testing::Upload(t, codes);
  p.f = t.Upload(f, "f");
  p.w = testing::Upload(t, w, joined);
  if (scaled) p.row_scale = t.Upload(row_scale, "row scale");
  p.blocks = blocks.Upload(t);
  p.parts = t.Allocate<float>(want.size(), "parts");
  t.Check(cuda::DecodeBlocks(p, t.stream()));
  EXPECT_EQ(t.Download(p.parts, want.size()), want);
}

TEST(VirtualBlocksDevice, DecodeEqualsItsPartner) {
  for (const std::int64_t d : {7, 32, 300}) {
    for (const bool joined : {false, true})
      RunDeviceTest([&](DeviceTest& t) { Decode(t, d, joined, joined); });
  }
}

TEST(VirtualBlocksDevice, AddsBlocksFromLeftToRight) {
  for (const bool with_bias : {false, true}) {
    RunDeviceTest([&](DeviceTest& t) {
      constexpr std::int64_t kD = 70;
      const auto parts = Normal<float>(1, 16 * kTokens * kD), bias = Normal<float>(2, kD);
      std::vector<float> want(At(kTokens * kD));
      device::AddBlocksParams p;
      p.parts = parts.data();
      p.count = 16;
      p.bias = with_bias ? bias.data() : nullptr;
      p.out = want.data();
      p.tokens = kTokens;
      p.d = kD;
      plain::AddBlocks(p);
      p.parts = t.Upload(parts, "parts");
      if (with_bias) p.bias = t.Upload(bias, "bias");
      p.out = t.Allocate<float>(want.size(), "out");
      t.Check(cuda::AddBlocks(p, t.stream()));
      EXPECT_EQ(t.Download(p.out, want.size()), want);
    });
  }
}

std::vector<float> SomeZeros(std::uint64_t seed, std::int64_t count) {
  std::vector<float> out = Normal<float>(seed, count);
  for (std::size_t i = 0; i < out.size(); i += 3) out[i] = 0;
  return out;
}

void RowSums(DeviceTest& t, const HostBlocks& blocks, std::int64_t d, bool joined) {
  const std::int64_t n = blocks.count * blocks.latents;
  const SplitWeights w(Normal<float>(2, n * d));
  const std::vector<float> weights = SomeZeros(3, n);
  std::vector<double> want(At(blocks.count * d));
  device::BlockRowSumsParams p;
  p.weights = weights.data();
  p.w = w.view(joined);
  p.blocks = blocks.view();
  p.d = d;
  p.out = want.data();
  plain::BlockRowSums(p);
  p.weights = t.Upload(weights, "weights");
  p.w = testing::Upload(t, w, joined);
  p.blocks = blocks.Upload(t);
  p.scratch = t.Allocate<double>(want.size() * At(device::RowSumParts(blocks.latents)), "scratch");
  p.out = t.Allocate<double>(want.size(), "out");
  t.Check(cuda::BlockRowSums(p, t.stream()));
  EXPECT_EQ(t.Download(p.out, want.size()), want);
}

TEST(VirtualBlocksDevice, RowSumsEqualTheirPartner) {
  RunDeviceTest([](DeviceTest& t) { RowSums(t, HostBlocks(4, 6), 300, true); });
  RunDeviceTest([](DeviceTest& t) { RowSums(t, HostBlocks(2, 150), 13, false); });
}

// Each block by itself, as ranks have them that own one each.
TEST(VirtualBlocksDevice, ABlockHasTheSameBitsAlone) {
  constexpr std::int64_t kD = 13, kEach = 1030;
  constexpr int kCount = 4;
  const HostBlocks blocks(kCount, kEach);
  const SplitWeights w(Normal<float>(2, kCount * kEach * kD));
  const std::vector<float> weights = SomeZeros(3, kCount * kEach);
  const std::vector<double> values = Normal<double>(4, kCount * kEach);
  const auto sums = [](DeviceTest& t, const HostBlocks& b, const std::vector<float>& of,
                       const SplitWeights& rows, const std::vector<double>& v) {
    const std::size_t size = At(b.count * kD);
    device::BlockRowSumsParams p;
    p.weights = t.Upload(of, "weights");
    p.w = testing::Upload(t, rows, true);
    p.blocks = b.Upload(t);
    p.d = kD;
    p.scratch = t.Allocate<double>(size * At(device::RowSumParts(kEach)), "scratch");
    p.out = t.Allocate<double>(size, "out");
    t.Check(cuda::BlockRowSums(p, t.stream()));
    std::vector<double> out = t.Download(p.out, size);
    device::BlockSumsParams s{
        t.Upload(v, "values"), p.blocks,
        t.Allocate<double>(At(b.count * device::BlockSumParts(kEach)), "parts"),
        t.Allocate<double>(At(b.count), "sums")};
    t.Check(cuda::BlockSums(s, t.stream()));
    for (const double sum : t.Download(s.out, At(b.count))) out.push_back(sum);
    return out;
  };
  RunDeviceTest([&](DeviceTest& t) {
    const std::vector<double> all = sums(t, blocks, weights, w, values);
    for (int v = 0; v < kCount; ++v) {
      std::vector<float> own, rows;
      std::vector<double> own_values;
      for (std::int64_t i = 0; i < kEach; ++i) {
        const std::int64_t id = blocks.members[At(v * kEach + i)];
        own.push_back(weights[At(id)]);
        own_values.push_back(values[At(id)]);
        for (std::int64_t j = 0; j < kD; ++j) rows.push_back(w.exact[At(id * kD + j)]);
      }
      const std::vector<double> alone =
          sums(t, HostBlocks(1, kEach), own, SplitWeights(rows), own_values);
      for (std::int64_t j = 0; j < kD; ++j) EXPECT_EQ(alone[At(j)], all[At(v * kD + j)]);
      EXPECT_EQ(alone[At(kD)], all[At(kCount * kD + v)]);
    }
  });
}

void Sums(DeviceTest& t, const HostBlocks& blocks) {
  const std::vector<double> values = Normal<double>(1, blocks.count * blocks.latents);
  std::vector<double> want(At(blocks.count));
  device::BlockSumsParams p{values.data(), blocks.view(), nullptr, want.data()};
  plain::BlockSums(p);
  p.values = t.Upload(values, "values");
  p.blocks = blocks.Upload(t);
  p.scratch =
      t.Allocate<double>(At(blocks.count * device::BlockSumParts(blocks.latents)), "scratch");
  p.out = t.Allocate<double>(want.size(), "out");
  t.Check(cuda::BlockSums(p, t.stream()));
  const std::vector<double> have = t.Download(p.out, want.size());
  for (std::size_t v = 0; v < want.size(); ++v) EXPECT_NEAR(have[v], want[v], 1e-10);
  std::vector<double> total(1);
  device::AddBlockSumsParams add{have.data(), blocks.count, 1, total.data()};
  plain::AddBlockSums(add);
  add.parts = p.out;
  add.out = t.Allocate<double>(1, "total");
  t.Check(cuda::AddBlockSums(add, t.stream()));
  EXPECT_EQ(t.Download(add.out, 1), total);
}

TEST(VirtualBlocksDevice, SumsEqualTheirPartner) {
  RunDeviceTest([](DeviceTest& t) { Sums(t, HostBlocks(16, 3)); });
  RunDeviceTest([](DeviceTest& t) { Sums(t, HostBlocks(2, 1200)); });
}

TEST(VirtualBlocksDevice, AddsSquares) {
  RunDeviceTest([](DeviceTest& t) {
    const std::vector<float> values = Normal<float>(1, 300);
    std::vector<double> want = Normal<double>(2, 300);
    double* const sums = t.Upload(want, "sums");
    plain::AddSquares({values.data(), 300, want.data()});
    t.Check(cuda::AddSquares({t.Upload(values, "values"), 300, sums}, t.stream()));
    EXPECT_EQ(t.Download(sums, want.size()), want);
  });
}

TEST(VirtualBlocksDevice, RefusesMissingPointers) {
  RunDeviceTest([](DeviceTest& t) {
    device::DecodeBlocksParams decode;
    decode.blocks.count = 1;
    decode.tokens = decode.d = 1;
    EXPECT_EQ(cuda::DecodeBlocks(decode, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::AddBlocks({nullptr, 1, nullptr, nullptr, 1, 1}, t.stream()),
              Error::kInvalidArgument);
    device::BlockSumsParams sums;
    sums.blocks.count = 1;
    EXPECT_EQ(cuda::BlockSums(sums, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::AddBlockSums({nullptr, 1, 1, nullptr}, t.stream()), Error::kInvalidArgument);
    EXPECT_EQ(cuda::AddSquares({nullptr, 1, nullptr}, t.stream()), Error::kInvalidArgument);
  });
}

TEST(VirtualBlocksDevice, EveryBarrierIsNeeded) {
  ExpectBarriersNeeded([](DeviceTest& t) { Sums(t, HostBlocks(2, 1200)); });
}

}  // namespace
}  // namespace sae::kernels
