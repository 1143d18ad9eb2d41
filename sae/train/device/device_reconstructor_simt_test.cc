// Sums over all latents of all ranks: the same bits at every number of ranks and size of chunks,
// and the sums' values.
#include <cmath>

#include <gtest/gtest.h>

#include "sae/base/random.h"
#include "sae/kernels/device/backward_test_data.h"
#include "sae/train/device/device_engine_simt_testing.h"
#include "sae/train/device/device_reconstructor.h"

namespace sae::train {
namespace {

namespace device = kernels::device;
using kernels::testing::At;

constexpr std::int64_t kLatents = 64, kTokens = 11, kIn = 6, kOut = 5;
constexpr std::int64_t kPrefix = 30;  // the first of two groups

/// The whole problem, by global ids.
struct Problem {
  std::vector<std::vector<std::int32_t>> ids;  // of each token, ascending
  std::vector<std::vector<float>> f;
  std::vector<float> decoder, encoder, bias, weights;
  std::vector<double> values;

  Problem() {
    Random random(3);
    ids.resize(kTokens);
    f.resize(kTokens);
    for (std::size_t t = 0; t < At(kTokens); ++t) {
      for (std::int32_t i = 0; i < kLatents; ++i) {
        if (t == 4 || random.Uniform() > 0.4) continue;  // one token has none
        ids[t].push_back(i);
        f[t].push_back(static_cast<float>(random.Normal()));
      }
    }
    decoder = kernels::testing::Normal<float>(4, kLatents * kOut);
    encoder = kernels::testing::Normal<float>(5, kLatents * kIn);
    bias = kernels::testing::Normal<float>(6, kOut);
    weights = kernels::testing::Normal<float>(7, kLatents);
    values = kernels::testing::Normal<double>(8, kLatents);
  }
};

struct Sums {
  std::vector<float> groups;  // 2 x tokens x d_out
  std::vector<double> rows;
  double total = 0;
  bool operator==(const Sums&) const = default;
};

/// What a rank uploads; freed with it.
class Uploads {
 public:
  Uploads(DeviceRuntime& runtime, void* stream) : runtime_(runtime), stream_(stream) {}
  ~Uploads() {
    for (void* data : data_) runtime_.Free(data);
  }
  template <class V>
  V* Put(const std::vector<V>& values) {
    const auto bytes =
        static_cast<std::int64_t>(std::max<std::size_t>(1, values.size()) * sizeof(V));
    data_.push_back(runtime_.Allocate(bytes, "test").value());
    if (!values.empty()) {
      EXPECT_TRUE(runtime_.CopyAsync(data_.back(), values.data(), bytes, stream_).ok());
      EXPECT_TRUE(runtime_.Synchronize(stream_).ok());
    }
    return static_cast<V*>(data_.back());
  }

 private:
  DeviceRuntime& runtime_;
  void* stream_;
  std::vector<void*> data_;
};

template <class V>
std::vector<V> RowsOf(const model::LatentShard& shard, const std::vector<V>& all,
                      std::int64_t width) {
  std::vector<V> out;
  for (std::int64_t i = 0; i < shard.count; ++i) {
    for (std::int64_t j = 0; j < width; ++j) out.push_back(all[At(shard.Global(i) * width + j)]);
  }
  return out;
}

device::DeviceCodes CodesOf(const model::LatentShard& shard, const Problem& problem, Uploads* put,
                            const float** f) {
  std::vector<std::int32_t> indptr = {0}, ids, rows;
  std::vector<float> values;
  for (std::int64_t t = 0; t < kTokens; ++t) {
    for (std::int64_t i = 0; i < shard.count; ++i) {
      const auto& own = problem.ids[At(t)];
      const auto found = std::lower_bound(own.begin(), own.end(), shard.Global(i));
      if (found == own.end() || *found != shard.Global(i)) continue;
      ids.push_back(static_cast<std::int32_t>(i));
      rows.push_back(static_cast<std::int32_t>(t));
      values.push_back(problem.f[At(t)][static_cast<std::size_t>(found - own.begin())]);
    }
    indptr.push_back(static_cast<std::int32_t>(ids.size()));
  }
  *f = put->Put(values);
  return {kTokens, std::ssize(ids), put->Put(indptr), put->Put(ids), put->Put(rows), nullptr};
}

absl::StatusOr<Sums> OfRank(DeviceRuntime& runtime, comm::Communicator& ranks,
                            const Problem& problem, std::int64_t chunk) {
  testing::StagedRank staged{&runtime};
  SAE_ASSIGN_OR_RETURN(staged.stream, runtime.CreateStream());
  DeviceParts parts;
  parts.runtime = &runtime;
  parts.stream = staged.stream;
  if (ranks.size() > 1) {
    SAE_ASSIGN_OR_RETURN(auto group, ranks.Split(0, ranks.rank()));
    comm::StagingOptions options;
    options.runtime = &runtime;
    options.stream = staged.stream;
    SAE_ASSIGN_OR_RETURN(staged.communicator, comm::StageThroughHost(std::move(group), options));
    parts.collectives = staged.communicator.get();
    parts.stream_ordered = true;
  }
  DeviceCollectives collectives(parts, parts.collectives, staged.stream);
  const model::LatentShard shard = model::ShardOf(kLatents, ranks.size(), ranks.rank());
  DeviceReconstructor reconstructor;
  DeviceReconstructor::Shape shape;
  shape.shard = shard;
  shape.rank = ranks.rank();
  shape.tokens = kTokens;
  shape.d = kIn;
  shape.d_out = kOut;
  shape.chunk_tokens = chunk;
  SAE_RETURN_IF_ERROR(reconstructor.Create(runtime, shape, &collectives, staged.stream));

  Uploads put(runtime, staged.stream);
  const kernels::testing::SplitWeights decoder(RowsOf(shard, problem.decoder, kOut));
  const kernels::testing::SplitWeights encoder(RowsOf(shard, problem.encoder, kIn));
  device::DecodeParams decode;
  decode.codes = CodesOf(shard, problem, &put, &decode.f);
  decode.w = {put.Put(decoder.hi), put.Put(decoder.lo)};
  decode.bias = put.Put(problem.bias);
  decode.groups.count = 2;
  decode.groups.last[0] = static_cast<std::int32_t>(shard.LocalBelow(kPrefix));
  decode.groups.last[1] = static_cast<std::int32_t>(shard.count);
  Sums out;
  out.groups.assign(At(2 * kTokens * kOut), -1);
  decode.parts = put.Put(out.groups);
  decode.d = kOut;
  SAE_RETURN_IF_ERROR(reconstructor.Run(decode));
  double* const rows = put.Put(std::vector<double>(kIn, -1));
  SAE_RETURN_IF_ERROR(reconstructor.WeightedRowSum(put.Put(RowsOf(shard, problem.weights, 1)),
                                                   {put.Put(encoder.hi), put.Put(encoder.lo)},
                                                   rows));
  double* const total = put.Put(std::vector<double>(1, -1));
  SAE_RETURN_IF_ERROR(reconstructor.Total(put.Put(RowsOf(shard, problem.values, 1)), total));
  SAE_RETURN_IF_ERROR(collectives.Wait());
  SAE_ASSIGN_OR_RETURN(out.groups,
                       Fetch(runtime, decode.parts, std::ssize(out.groups), staged.stream));
  SAE_ASSIGN_OR_RETURN(out.rows, Fetch(runtime, rows, kIn, staged.stream));
  SAE_ASSIGN_OR_RETURN(const std::vector<double> sum, Fetch(runtime, total, 1, staged.stream));
  out.total = sum[0];
  return out;
}

std::vector<Sums> OfAllRanks(const Problem& problem, int ranks, std::int64_t chunk) {
  simt::SimtRuntime runtime({});
  std::vector<Sums> out(static_cast<std::size_t>(ranks));
  const absl::Status status = comm::RunInProcess(ranks, [&](comm::Communicator& own) {
    absl::StatusOr<Sums> sums = OfRank(runtime, own, problem, chunk);
    if (sums.ok()) out[static_cast<std::size_t>(own.rank())] = *std::move(sums);
    return sums.status();
  });
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(runtime.error(), "");
  EXPECT_EQ(runtime.live_buffers(), 0);
  return out;
}

TEST(DeviceReconstructor, SumsAreRight) {
  const Problem problem;
  const Sums have = OfAllRanks(problem, 1, 0)[0];
  for (std::int64_t t = 0; t < kTokens; ++t) {
    for (std::int64_t j = 0; j < kOut; ++j) {
      double want[2] = {static_cast<double>(problem.bias[At(j)]), 0};
      for (std::size_t e = 0; e < problem.ids[At(t)].size(); ++e) {
        const std::int64_t id = problem.ids[At(t)][e];
        want[id < kPrefix ? 0 : 1] += static_cast<double>(problem.f[At(t)][e]) *
                                      static_cast<double>(problem.decoder[At(id * kOut + j)]);
      }
      for (int g = 0; g < 2; ++g)
        EXPECT_NEAR(have.groups[At((g * kTokens + t) * kOut + j)], want[g], 1e-4) << t << " " << j;
    }
  }
  double total = 0;
  std::vector<double> rows(kIn, 0.0);
  for (std::int64_t i = 0; i < kLatents; ++i) {
    total += problem.values[At(i)];
    for (std::int64_t j = 0; j < kIn; ++j)
      rows[At(j)] += static_cast<double>(problem.weights[At(i)]) *
                     static_cast<double>(problem.encoder[At(i * kIn + j)]);
  }
  EXPECT_NEAR(have.total, total, 1e-12);
  for (std::int64_t j = 0; j < kIn; ++j) EXPECT_NEAR(have.rows[At(j)], rows[At(j)], 1e-5);
}

TEST(DeviceReconstructor, AnyNumberOfRanksAndAnyChunkGivesTheSameBits) {
  const Problem problem;
  const Sums one = OfAllRanks(problem, 1, 0)[0];
  for (const int ranks : {1, 2, 4, 16}) {
    for (const std::int64_t chunk : {0, 4, 1}) {
      for (const Sums& sums : OfAllRanks(problem, ranks, chunk))
        EXPECT_TRUE(sums == one) << ranks << " ranks, chunks of " << chunk;
    }
  }
}

TEST(DeviceReconstructor, ChunksFillTheirBufferAndNoMore) {
  EXPECT_EQ(FixedChunkTokens(4096, 768), 1365);
  EXPECT_LE(kVirtualBlocks * FixedChunkTokens(4096, 768) * 768, kFixedChunkFloats);
  EXPECT_EQ(FixedChunkTokens(64, 768), 64);
  EXPECT_EQ(FixedChunkTokens(64, std::int64_t{1} << 40), 1);
  EXPECT_EQ(FixedColumns(16384), 1024);
  EXPECT_EQ(FixedColumns(std::int64_t{1} << 24), 8192);
  EXPECT_EQ(FixedAuxColumns(16384), 512);
  EXPECT_EQ(FixedAuxColumns(64), 4);
}

}  // namespace
}  // namespace sae::train
