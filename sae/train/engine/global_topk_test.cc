// The exact selections over in-process ranks against one plain answer, which path they took, and
// what they sent.
#include <cmath>

#include "gtest/gtest.h"

#include "sae/train/engine/selection_testing.h"

namespace sae::train {
namespace {

using testing::At;
using testing::kCaseK;
using testing::kCaseLatents;
using testing::kCaseTokens;
using testing::SelectionCase;
using testing::TopKOutcome;
using testing::TopKRequest;

class SelectionOverRanks : public ::testing::TestWithParam<int> {
 protected:
  // Rank 0's outcome; every rank's answer must be right.
  TopKOutcome TopK(const SelectionCase& c, const TopKRequest& request) const {
    TopKOutcome out;
    const absl::Status status = comm::RunInProcess(GetParam(), [&](comm::Communicator& comm) {
      SAE_ASSIGN_OR_RETURN(const TopKOutcome mine, testing::RunTopK(comm, c, request));
      if (!mine.difference.empty()) return absl::InternalError(mine.difference);
      if (comm.rank() == 0) out = mine;
      return absl::OkStatus();
    });
    EXPECT_TRUE(status.ok()) << status;
    return out;
  }
};
INSTANTIATE_TEST_SUITE_P(P, SelectionOverRanks, ::testing::Values(1, 2, 3, 4, 8));

// Properties 13 and 29.
TEST_P(SelectionOverRanks, TopKIsThatOfOneProcess) {
  const std::int64_t ranks = GetParam();
  const std::int64_t c = kernels::ShardCapacity(kCaseK, ranks);
  for (const SelectionCase& test : testing::SelectionCases()) {
    SCOPED_TRACE(test.name);
    const TopKOutcome out = TopK(test, {});
    EXPECT_EQ(out.counters.tokens, 2 * kCaseTokens);
    if (ranks == 1) {
      EXPECT_EQ(out.sent, 0);
      continue;
    }
    EXPECT_EQ(out.first, 2 * kCaseTokens * ranks * c * 4);
    EXPECT_EQ(out.sent, out.first + out.second + out.ties);
    // The paths that the case is there for were taken, and only those.
    if (test.crowded) {
      EXPECT_EQ(out.counters.unsafe_tokens, 2 * kCaseTokens);
      EXPECT_EQ(out.second,
                2 * kCaseTokens * ranks * std::min(kCaseK, kCaseLatents / ranks) * 4);
    }
    EXPECT_EQ(out.counters.tied_tokens > 0, test.tied);
    if (test.name == "random") {
      EXPECT_LT(out.counters.unsafe_tokens, kCaseTokens / 2);
    }
    if (test.name == "few_positive" || test.name == "none_positive" || test.name == "zeros") {
      EXPECT_EQ(out.counters.unsafe_tokens, 0);
    }
  }
}

TEST_P(SelectionOverRanks, NarrowTakesTheFirstOfAWiderSelection) {
  for (const SelectionCase& test : testing::SelectionCases()) {
    SCOPED_TRACE(test.name);
    TopKRequest request;
    request.narrow = 7;
    TopK(test, request);
    request.k = kCaseLatents;  // all win first
    TopK(test, request);
  }
}

// AuxK: each rank offers its dead latents, however many those are.
TEST_P(SelectionOverRanks, ASubsetOfEachRankIsEnough) {
  const std::int64_t ranks = GetParam();
  const model::LatentShard last =
      model::ShardOf(kCaseLatents, GetParam(), GetParam() - 1);
  for (const SelectionCase& test : testing::SelectionCases()) {
    SCOPED_TRACE(test.name);
    for (const std::int64_t k : {3L, 24L, 200L}) {
      TopKRequest request;
      request.k = k;
      request.allowed = [](std::int64_t i) { return i % 3 == 0 || (i > 40 && i < 90); };
      TopK(test, request);
      // All on the last rank: the others have nothing to offer.
      request.allowed = [&](std::int64_t i) {
        for (std::int64_t j = 0; j < last.count; ++j) {
          if (last.Global(j) == i) return true;
        }
        return false;
      };
      const TopKOutcome out = TopK(test, request);
      if (k >= kCaseLatents / ranks) {
        EXPECT_EQ(out.sent, 0);  // all of them win
      }
    }
  }
}

class SelectionInNodes : public SelectionOverRanks {};
INSTANTIATE_TEST_SUITE_P(P, SelectionInNodes, ::testing::Values(4, 8));

TEST_P(SelectionInNodes, TwoLevelsGiveTheSame) {
  const std::int64_t ranks = GetParam();
  for (const int node : {2, GetParam() / 2}) {
    const std::int64_t c = kernels::ShardCapacity(kCaseK, ranks) +
                           kernels::ShardCapacity(kCaseK, ranks / node);
    for (const SelectionCase& test : testing::SelectionCases()) {
      SCOPED_TRACE(::testing::Message() << test.name << ", nodes of " << node);
      TopKRequest request;
      request.node = node;
      const TopKOutcome out = TopK(test, request);
      EXPECT_EQ(out.first, 2 * kCaseTokens * ranks * c * 4);
      if (test.crowded) {
        EXPECT_EQ(out.counters.unsafe_tokens, 2 * kCaseTokens);
      }
      EXPECT_EQ(out.counters.tied_tokens > 0, test.tied);
      request.narrow = 7;
      TopK(test, request);
    }
  }
}

TEST_P(SelectionOverRanks, BatchTopKIsThatOfOneProcess) {
  for (const SelectionCase& test : testing::SelectionCases()) {
    for (const std::int64_t k : {1, 5, 24}) {
      SCOPED_TRACE(::testing::Message() << test.name << ", k " << k);
      const absl::Status status = comm::RunInProcess(GetParam(), [&](comm::Communicator& comm) {
        SAE_ASSIGN_OR_RETURN(const auto out, testing::RunBatchTopK(comm, test, k));
        if (!out.difference.empty()) return absl::InternalError(out.difference);
        if (GetParam() == 1) return absl::OkStatus();
        // Histograms of 2^11, 2^11 and 2^10 counts of 8 bytes, and a few numbers.
        const std::int64_t histograms = 8 * (2048 + 2048 + 1024);
        if (test.name == "random" && (out.sent < histograms || out.sent > histograms + 64))
          return absl::InternalError(absl::StrCat(out.sent, " bytes"));
        // Of tied entries no rank sends more than can win.
        if (out.sent > histograms + 64 + 8 * k * kCaseTokens)
          return absl::InternalError(absl::StrCat(out.sent, " bytes with ties"));
        return absl::OkStatus();
      });
      EXPECT_TRUE(status.ok()) << status;
    }
  }
}

// What NaN there is on one rank is that rank's to report; the others go on with theirs.
TEST_P(SelectionOverRanks, NanIsRefusedByItsRankAlone) {
  const SelectionCase test = testing::SelectionCases()[0];
  const absl::Status status = comm::RunInProcess(GetParam(), [&](comm::Communicator& comm) {
    const model::LatentShard shard = model::ShardOf(kCaseLatents, comm.size(), comm.rank());
    testing::Injected injected(testing::PreActivations(test, comm.size()), shard);
    const bool mine = comm.rank() == comm.size() - 1;
    if (mine) injected.w[0] = std::numeric_limits<float>::quiet_NaN();
    ThreadPool pool(1);
    GlobalTopK<float> selector(comm, pool, shard);
    const std::vector<std::int64_t> offered(At(comm.size()), shard.count);
    kernels::EncodeWorkspace<float> workspace;
    kernels::Codes<float> codes;
    Phases phases;
    bool finite = false;
    SAE_RETURN_IF_ERROR(
        selector.Select(injected.input, kCaseK, offered, &workspace, &codes, &finite, &phases));
    EXPECT_EQ(finite, !mine);
    if (mine) {
      EXPECT_EQ(codes.nnz(), 0);
    }
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

// Latents with random rows, tokens with random values: winners fall on any shard alike.
struct Uniform {
  static constexpr std::int64_t kLatents = 2048, kTokens = 2048, kWidth = 16;
  explicit Uniform(const model::LatentShard& shard) {
    for (std::int64_t i = 0; i < shard.count; ++i) {
      Random random(HashCounter(3, static_cast<std::uint64_t>(shard.Global(i))));
      for (std::int64_t j = 0; j < kWidth; ++j) w.push_back(static_cast<float>(random.Normal()));
    }
    Random random(4);
    for (std::int64_t j = 0; j < kTokens * kWidth; ++j)
      x.push_back(static_cast<float>(random.Normal()));
    c.resize(At(shard.count));
    input.x = x.data();
    input.tokens = kTokens;
    input.d = kWidth;
    input.w = w.data();
    input.c = c.data();
    input.latents = shard.count;
  }
  std::vector<float> w, x, c;
  kernels::EncodeInput<float> input;
};

// numerics 2: whichever latents a rank owns, and wherever they lie, z of a token and a latent has
// the same bits.
TEST(SelectionValues, AnyDealingGivesTheSamePreActivations) {
  constexpr std::int64_t tokens = 150;
  const auto values = [&](const model::LatentShard& shard) {
    Uniform data(shard);
    data.input.tokens = tokens;
    ThreadPool pool(2);
    kernels::EncodeWorkspace<float> workspace;
    kernels::TopK<float> all;
    EXPECT_TRUE(kernels::EncodeTopK(data.input, shard.count, &workspace, &all, pool));
    std::vector<float> z(At(tokens * shard.count));
    for (std::int64_t b = 0; b < tokens; ++b) {
      for (std::int64_t j = 0; j < shard.count; ++j)
        z[At(b * shard.count + all.ids[At(b * shard.count + j)])] =
            all.values[At(b * shard.count + j)];
    }
    return z;
  };
  const std::vector<float> one = values(model::ShardOf(Uniform::kLatents, 1, 0));
  for (const std::int64_t seed : {model::kDealSeed, std::int64_t{1}, std::int64_t{2}}) {
    for (const int ranks : {2, 4, 8, 32}) {
      for (const int rank : {0, ranks - 1}) {
        const model::LatentShard shard = model::ShardOf(Uniform::kLatents, ranks, rank, seed);
        const std::vector<float> z = values(shard);
        for (std::int64_t b = 0; b < tokens; ++b) {
          for (std::int64_t i = 0; i < shard.count; ++i)
            ASSERT_EQ(z[At(b * shard.count + i)], one[At(b * Uniform::kLatents + shard.Global(i))]);
        }
      }
    }
  }
}

TEST(SelectionBytes, FirstRoundIs448BytesATokenOnEightRanksAndTheRestIsRare) {
  constexpr std::int64_t k = 32;
  const auto select = [](comm::Communicator& comm, kernels::Codes<float>* codes) -> absl::Status {
    const model::LatentShard shard = model::ShardOf(Uniform::kLatents, comm.size(), comm.rank());
    const Uniform data(shard);
    ThreadPool pool(1);
    GlobalTopK<float> selector(comm, pool, shard);
    const std::vector<std::int64_t> offered(At(comm.size()), shard.count);
    kernels::EncodeWorkspace<float> workspace;
    Phases phases;
    bool finite = false;
    return selector.Select(data.input, k, offered, &workspace, codes, &finite, &phases);
  };
  const auto self = comm::CreateSelf();
  kernels::Codes<float> one;
  ASSERT_TRUE(select(*self, &one).ok());
  const absl::Status status = comm::RunInProcess(8, [&](comm::Communicator& comm) -> absl::Status {
    const model::LatentShard shard = model::ShardOf(Uniform::kLatents, 8, comm.rank());
    kernels::Codes<float> codes;
    SAE_RETURN_IF_ERROR(select(comm, &codes));
    SAE_ASSIGN_OR_RETURN(const auto bytes, testing::SelectionBytes(comm, {}));
    EXPECT_EQ(bytes[0], 448 * Uniform::kTokens);
    EXPECT_LE(bytes[1] + bytes[2], 2 * Uniform::kTokens);
    EXPECT_EQ(bytes[0] + bytes[1] + bytes[2], bytes[3]);
    std::int64_t codes_of_all = codes.nnz();
    SAE_RETURN_IF_ERROR(comm.AllReduceSum(std::span<std::int64_t>(&codes_of_all, 1)));
    EXPECT_EQ(codes_of_all, one.nnz());
    // Every code of this rank is one of the single process's.
    for (std::int64_t b = 0; b < Uniform::kTokens; ++b) {
      const auto first = one.ids.begin() + one.indptr[At(b)];
      const auto last = one.ids.begin() + one.indptr[At(b) + 1];
      for (std::int64_t e = codes.indptr[At(b)]; e < codes.indptr[At(b) + 1]; ++e) {
        const auto it = std::lower_bound(first, last, shard.Global(codes.ids[At(e)]));
        if (it == last || *it != shard.Global(codes.ids[At(e)]) ||
            one.values[At(it - one.ids.begin())] != codes.values[At(e)])
          return absl::InternalError(absl::StrCat("token ", b));
      }
    }
    return absl::OkStatus();
  });
  EXPECT_TRUE(status.ok()) << status;
}

}  // namespace
}  // namespace sae::train
