#pragma once
// For tests of the exact selections over ranks: pre-activations that are given, not computed (x is
// the identity, so that z of token b and latent i is W[i][b]), the plain answer, and the cases in
// which shards could matter. The same bodies run in process and over MPI.

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "sae/base/random.h"
#include "sae/train/engine/batch_topk.h"
#include "sae/train/engine/global_topk.h"

namespace sae::train::testing {

inline constexpr std::int64_t kCaseLatents = 192;  // of 1, 2, 3, 4 and 8 shards
inline constexpr std::int64_t kCaseTokens = 21;
inline constexpr std::int64_t kCaseK = 24;

inline std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

/// [token, latent] -> z. `special`: a latent that lives on the rank where winners crowd.
struct SelectionCase {
  std::string name;
  std::function<float(Random&, std::int64_t token, std::int64_t latent, bool special)> z;
  bool crowded = false;  ///< more winners on a rank than it offers first
  bool tied = false;     ///< ids decide
};

inline std::vector<SelectionCase> SelectionCases() {
  const auto normal = [](Random& r) { return static_cast<float>(r.Normal()); };
  return {
      {"random", [=](Random& r, auto, auto, bool) { return normal(r); }},
      {"duplicates",
       [=](Random& r, auto, auto, bool) { return std::floor(2 * normal(r)); }, false, true},
      {"all_equal", [](Random&, auto, auto, bool) { return 1.F; }, true, true},
      {"one_shard",
       [=](Random& r, auto, auto, bool s) { return normal(r) + (s ? 20.F : 0.F); }, true, false},
      {"one_shard_equal",
       [](Random&, auto, auto, bool s) { return s ? 3.F : 2.F; }, true, false},
      {"few_positive",
       [=](Random& r, std::int64_t b, std::int64_t i, bool) {
         return i % 17 == b % 17 ? std::abs(normal(r)) + 0.1F : -std::abs(normal(r));
       }},
      {"zeros", [](Random&, auto b, auto i, bool) { return i % 2 == b % 2 ? 0.F : -0.F; }},
      {"none_positive", [](Random&, auto, auto, bool) { return -1.F; }},
  };
}

/// All pre-activations of a case over `ranks` ranks, tokens x latents.
inline std::vector<float> PreActivations(const SelectionCase& c, int ranks) {
  std::vector<std::uint8_t> special(kCaseLatents, 0);
  const model::LatentShard crowded = model::ShardOf(kCaseLatents, ranks, ranks / 2);
  for (std::int64_t i = 0; i < crowded.count; ++i) special[At(crowded.Global(i))] = 1;
  Random random(23);
  std::vector<float> z;
  for (std::int64_t b = 0; b < kCaseTokens; ++b) {
    for (std::int64_t i = 0; i < kCaseLatents; ++i)
      z.push_back(c.z(random, b, i, special[At(i)] != 0));
  }
  return z;
}

/// One rank's encoder whose pre-activations are z.
struct Injected {
  Injected(const std::vector<float>& z, const model::LatentShard& shard)
      : x(At(kCaseTokens * kCaseTokens)), w(At(shard.count * kCaseTokens)), c(At(shard.count)) {
    for (std::int64_t b = 0; b < kCaseTokens; ++b) {
      x[At(b * kCaseTokens + b)] = 1;
      for (std::int64_t i = 0; i < shard.count; ++i)
        w[At(i * kCaseTokens + b)] = z[At(b * shard.latents + shard.Global(i))];
    }
    input.x = x.data();
    input.tokens = input.d = kCaseTokens;
    input.w = w.data();
    input.c = c.data();
    input.latents = shard.count;
  }
  std::vector<float> x, w, c;
  kernels::EncodeInput<float> input;
};

using Ids = std::vector<std::vector<std::int64_t>>;

/// By token the `k` first positive entries of `allowed` (all where empty) that live on `shard`.
inline Ids ExpectedTopK(const std::vector<float>& z, std::int64_t k,
                        const std::vector<std::uint8_t>& allowed) {
  Ids out;
  for (std::int64_t b = 0; b < kCaseTokens; ++b) {
    std::vector<std::int64_t> ids;
    const auto value = [&](std::int64_t i) { return z[At(b * kCaseLatents + i)]; };
    for (std::int64_t i = 0; i < kCaseLatents; ++i) {
      if (value(i) > 0 && (allowed.empty() || allowed[At(i)] != 0)) ids.push_back(i);
    }
    std::stable_sort(ids.begin(), ids.end(),
                     [&](std::int64_t i, std::int64_t j) { return value(i) > value(j); });
    ids.resize(std::min(ids.size(), At(k)));
    std::sort(ids.begin(), ids.end());
    out.push_back(std::move(ids));
  }
  return out;
}

/// The kept * tokens first positive entries of the whole batch, ties to the lower (token, latent).
inline Ids ExpectedBatchTopK(const std::vector<float>& z, std::int64_t kept) {
  std::vector<std::int64_t> places;
  for (std::int64_t p = 0; p < static_cast<std::int64_t>(z.size()); ++p) {
    if (z[At(p)] > 0) places.push_back(p);
  }
  std::stable_sort(places.begin(), places.end(),
                   [&](std::int64_t p, std::int64_t q) { return z[At(p)] > z[At(q)]; });
  places.resize(std::min(places.size(), At(kept)));
  std::sort(places.begin(), places.end());
  Ids out(At(kCaseTokens));
  for (const std::int64_t p : places) out[At(p / kCaseLatents)].push_back(p % kCaseLatents);
  return out;
}

/// Of `want`, this rank's part; empty where `codes` is exactly that, with the values of z.
inline std::string Difference(const kernels::Codes<float>& codes, const Ids& want,
                              const std::vector<float>& z, const model::LatentShard& shard) {
  for (std::int64_t b = 0; b < kCaseTokens; ++b) {
    std::vector<std::int64_t> expected, got;
    for (std::int64_t i = 0; i < shard.count; ++i) {
      if (std::binary_search(want[At(b)].begin(), want[At(b)].end(), shard.Global(i)))
        expected.push_back(shard.Global(i));
    }
    for (std::int64_t e = codes.indptr[At(b)]; e < codes.indptr[At(b) + 1]; ++e) {
      got.push_back(shard.Global(codes.ids[At(e)]));
      if (codes.values[At(e)] != z[At(b * shard.latents + got.back())])
        return absl::StrCat("token ", b, " latent ", got.back(), ": another value");
    }
    if (got != expected)
      return absl::StrCat("token ", b, ": ", got.size(), " codes, not the ", expected.size(),
                          " expected");
  }
  return "";
}

/// Of the first round, the second, ties, everything.
using BytesByPurpose = std::array<std::int64_t, 4>;

inline BytesByPurpose OwnSelectionBytes(comm::Communicator& communicator) {
  const comm::Traffic& traffic = communicator.traffic();
  return {traffic.Of(kSelectFirst).bytes, traffic.Of(kSelectSecond).bytes,
          traffic.Of(kSelectTies).bytes, traffic.Total().bytes};
}

/// What all ranks together have sent since then.
inline absl::StatusOr<BytesByPurpose> SelectionBytes(comm::Communicator& communicator,
                                                     const BytesByPurpose& before) {
  BytesByPurpose bytes = OwnSelectionBytes(communicator);
  for (std::size_t i = 0; i < bytes.size(); ++i) bytes[i] -= before[i];
  SAE_RETURN_IF_ERROR(communicator.AllReduceSum(std::span<std::int64_t>(bytes)));
  return bytes;
}

struct TopKOutcome {
  std::string difference;      ///< empty: right
  SelectionCounters counters;
  // Bytes of all ranks together, by purpose, and of everything.
  std::int64_t first = 0, second = 0, ties = 0, sent = 0;
};

struct TopKRequest {
  std::int64_t k = kCaseK;
  std::int64_t narrow = 0;
  int node = 0;
  std::function<bool(std::int64_t latent)> allowed;  ///< null: all
};

/// The selection of one case on this communicator against the plain answer.
inline absl::StatusOr<TopKOutcome> RunTopK(comm::Communicator& communicator, const SelectionCase& c,
                                           const TopKRequest& request) {
  const int ranks = communicator.size();
  const std::vector<float> z = PreActivations(c, ranks);
  const model::LatentShard shard = model::ShardOf(kCaseLatents, ranks, communicator.rank());
  Injected injected(z, shard);
  std::vector<std::uint8_t> allowed;
  std::vector<std::int32_t> subset;
  std::vector<std::int64_t> offered(At(ranks), kCaseLatents / ranks);
  if (request.allowed) {
    for (std::int64_t i = 0; i < kCaseLatents; ++i) allowed.push_back(request.allowed(i) ? 1 : 0);
    for (int r = 0; r < ranks; ++r) {
      const model::LatentShard other = model::ShardOf(kCaseLatents, ranks, r);
      std::int64_t& count = offered[At(r)] = 0;
      for (std::int64_t i = 0; i < other.count; ++i) count += allowed[At(other.Global(i))];
    }
    for (std::int64_t i = 0; i < shard.count; ++i) {
      if (allowed[At(shard.Global(i))] != 0) subset.push_back(static_cast<std::int32_t>(i));
    }
    injected.input.subset = subset.data();
    injected.input.subset_size = static_cast<std::int64_t>(subset.size());
    static constexpr std::int32_t kNone = 0;
    if (subset.empty()) injected.input.subset = &kNone;
  }
  ThreadPool pool(2);
  GlobalTopK<float> selector(communicator, pool, shard, request.narrow, request.node);
  kernels::EncodeWorkspace<float> workspace;
  kernels::Codes<float> codes;
  Phases phases;
  bool finite = false;
  TopKOutcome out;
  const BytesByPurpose before = OwnSelectionBytes(communicator);
  for (int round = 0; round < 2; ++round) {  // again with buffers that have been used
    SAE_RETURN_IF_ERROR(selector.Select(injected.input, request.k, offered, &workspace, &codes,
                                        &finite, &phases));
    if (!finite) return absl::InternalError("NaN");
    out.difference += Difference(codes, ExpectedTopK(z, request.k, allowed), z, shard);
    if (request.narrow == 0) continue;
    selector.Narrow(&codes, &phases);
    out.difference += Difference(codes, ExpectedTopK(z, request.narrow, allowed), z, shard);
  }
  out.counters = selector.counters();
  SAE_ASSIGN_OR_RETURN(const auto bytes, SelectionBytes(communicator, before));
  out.first = bytes[0];
  out.second = bytes[1];
  out.ties = bytes[2];
  out.sent = bytes[3];
  return out;
}

/// BatchTopK of one case; the difference, and the bytes that this rank sent.
struct BatchTopKOutcome {
  std::string difference;
  std::int64_t sent = 0;
};
inline absl::StatusOr<BatchTopKOutcome> RunBatchTopK(comm::Communicator& communicator,
                                                     const SelectionCase& c, std::int64_t k) {
  const int ranks = communicator.size();
  const std::vector<float> z = PreActivations(c, ranks);
  config::TrialConfig config;
  config.sae.architecture = "batchtopk";
  config.sae.latents = kCaseLatents;
  config.sae.k = k;
  config.ranks = ranks;
  config.train.batch = kCaseTokens;
  ThreadPool pool(2);
  SAE_ASSIGN_OR_RETURN(const auto mesh, Mesh::Create(communicator, 1));
  const Context context{
      config,      {}, model::ShardOf(kCaseLatents, ranks, communicator.rank()), kCaseTokens,
      kCaseTokens, communicator, pool, *mesh};
  Injected injected(z, context.shard);
  BatchTopKActivation<float> activation(context);
  kernels::EncodeWorkspace<float> workspace;
  Entries<float> entries;
  Phases phases;
  BatchTopKOutcome out;
  // The first step has no lower bound; the second has one.
  for (int round = 0; round < 2; ++round) {
    const std::int64_t before = communicator.bytes_sent();
    SAE_RETURN_IF_ERROR(activation.Encode(injected.input, true, &workspace, &entries, &phases));
    out.sent = communicator.bytes_sent() - before;
    if (!entries.finite) return absl::InternalError("NaN");
    out.difference +=
        Difference(entries.codes, ExpectedBatchTopK(z, k * kCaseTokens), z, context.shard);
  }
  return out;
}

}  // namespace sae::train::testing
