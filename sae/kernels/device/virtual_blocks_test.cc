// The partners of the virtual blocks' kernels, by hand.
#include "sae/kernels/device/virtual_blocks.h"

#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_test_data.h"

namespace sae::kernels {
namespace {

// Two blocks: {0, 3} and {1, 2}; d = 2; token 0 has latents 0, 1, 3, token 1 has 2.
const std::vector<std::uint8_t> kBlock = {0, 1, 1, 0};
const std::vector<std::int32_t> kMembers = {0, 3, 1, 2};
const device::VirtualBlocks kBlocks = {2, 2, kBlock.data(), kMembers.data()};
const std::vector<float> kRows = {1, 2, 10, 20, 100, 200, 1000, 2000};

TEST(VirtualBlocksPartner, BlocksAreDecodedApartAndAddedInOrder) {
  const testing::SplitWeights w(kRows);
  std::vector<std::int32_t> indptr = {0, 3, 4}, ids = {0, 1, 3, 2}, rows = {0, 0, 0, 1};
  std::vector<float> f = {1, 2, 3, 4}, parts(8, -1);
  device::DecodeBlocksParams p;
  p.codes = {2, 4, indptr.data(), ids.data(), rows.data(), f.data()};
  p.f = f.data();
  p.w = w.view(true);
  p.blocks = kBlocks;
  p.tokens = 2;
  p.parts = parts.data();
  p.d = 2;
  plain::DecodeBlocks(p);
  EXPECT_EQ(parts, (std::vector<float>{3001, 6002, 0, 0, 20, 40, 400, 800}));
  std::vector<float> out(4), bias = {0.5F, 0.25F};
  plain::AddBlocks({parts.data(), 2, bias.data(), out.data(), 2, 2});
  EXPECT_EQ(out, (std::vector<float>{3021.5F, 6042.25F, 400.5F, 800.25F}));
  // The second token alone, of latents below 2: nothing.
  p.first_token = 1;
  p.tokens = 1;
  p.last_latent = 2;
  plain::DecodeBlocks(p);
  EXPECT_EQ((std::vector<float>(parts.begin(), parts.begin() + 4)), std::vector<float>(4, 0.0F));
}

TEST(VirtualBlocksPartner, SumsOfABlockAreOfItsMembers) {
  const testing::SplitWeights w(kRows);
  const std::vector<float> weights = {1, 0, 2, 3};
  std::vector<double> out(4), scratch(4);
  plain::BlockRowSums({weights.data(), w.view(true), kBlocks, 2, scratch.data(), out.data()});
  EXPECT_EQ(out, (std::vector<double>{3001, 6002, 200, 400}));
  std::vector<double> total(2);
  plain::AddBlockSums({out.data(), 2, 2, total.data()});
  EXPECT_EQ(total, (std::vector<double>{3201, 6402}));
  std::vector<double> values = {1, 2, 4, 8}, sums(2);
  plain::AddSquares({weights.data(), 4, values.data()});
  plain::BlockSums({values.data(), kBlocks, scratch.data(), sums.data()});
  EXPECT_EQ(sums, (std::vector<double>{2 + 17, 2 + 8}));
}

TEST(VirtualBlocksPartner, RunsOfAListFollowItsLengthAlone) {
  EXPECT_EQ(device::RowSumParts(1), 1);
  EXPECT_EQ(device::RowSumParts(127), 1);
  EXPECT_EQ(device::RowSumParts(128), 2);
  EXPECT_EQ(device::RowSumParts(1 << 20), 64);
  EXPECT_EQ(device::BlockSumParts(1), 1);
  EXPECT_EQ(device::BlockSumParts(1024), 2);
  EXPECT_EQ(device::BlockSumParts(1 << 20), 32);
}

}  // namespace
}  // namespace sae::kernels
