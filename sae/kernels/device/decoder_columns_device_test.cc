// Blocks of the decoder's columns against their partners: bit for bit but for float64 sums in
// another order.
#include <cmath>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/backward_device_test_data.h"
#include "sae/kernels/device/decoder_columns.h"
#include "sae/kernels/device/row_update.h"
#include "sae/kernels/row_ops.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using device::kColumnBlocks;
using device::RowUpdateParams;
using sae::testing::DeviceTest;
using sae::testing::ExpectBarriersNeeded;
using sae::testing::RunDeviceTest;
using testing::At;
using testing::HostCodes;
using testing::Normal;
using testing::SplitWeights;

TEST(SplitColumnsDevice, EqualsItsPartner) {
  constexpr std::int64_t kTokens = 5, kD = 24;
  const auto in = Normal<float>(1, kTokens * kD);
  RunDeviceTest([&](DeviceTest& t) {
    for (const std::int64_t blocks : {1, 2, 8}) {
      std::vector<float> out(At(blocks * kTokens * 3));
      device::SplitColumnsParams p{in.data(), kTokens, kD,        blocks == 8 ? 0 : 6,
                                   3,         blocks,  out.data()};
      plain::SplitColumns(p);
      EXPECT_EQ(out[At(kTokens * 3 - 1)], in[At((kTokens - 1) * kD + p.first + 2)]);
      p.in = t.Upload(in, "in");
      p.out = t.Allocate<float>(out.size(), "out");
      t.Check(cuda::SplitColumns(p, t.stream()));
      EXPECT_EQ(t.Download(p.out, out.size()), out);
    }
  });
}

constexpr std::int64_t kTokens = 19;

/// The codes of one rank: latents r, r + ranks, ... of all.
struct Rank {
  HostCodes codes;
  std::vector<std::int32_t> global_ids;
};
std::vector<Rank> MakeRanks(int ranks, std::int64_t latents, double density) {
  std::vector<Rank> out;
  for (int r = 0; r < ranks; ++r) {
    out.push_back({testing::MakeCodes(static_cast<std::uint64_t>(7 + 2 * r), kTokens,
                                      latents / ranks, density),
                   {}});
    for (std::int64_t i = 0; i < latents / ranks; ++i)
      out.back().global_ids.push_back(static_cast<std::int32_t>(i * ranks + r));
  }
  return out;
}

struct Merged {
  std::vector<std::int32_t> indptr, ids, rows, place;
  std::vector<float> values;
  std::int32_t overflow = 0;
};

/// Packs each rank's codes, merges them, and puts other values of the same entries in their places.
void Exchange(DeviceTest& t, int ranks, double density, std::int64_t capacity, std::int64_t room) {
  constexpr std::int64_t kLatents = 48;
  std::vector<Rank> all = MakeRanks(ranks, kLatents, density);
  const std::int64_t words = device::WinnerWords(kTokens, capacity);
  std::vector<std::int32_t> winners(At(ranks * words));
  std::int32_t* const on = t.Allocate<std::int32_t>(winners.size(), "winners");
  std::int32_t* const overflow = testing::UploadScalar(t, std::int32_t{0}, "overflow");
  Merged host;
  std::int64_t entries = 0;
  for (int r = 0; r < ranks; ++r) {
    Rank& rank = all[static_cast<std::size_t>(r)];
    device::PackWinnersParams p{rank.codes.view(),          rank.codes.values.data(),
                                rank.global_ids.data(),     capacity,
                                winners.data() + r * words, &host.overflow};
    plain::PackWinners(p);
    p.codes = testing::Upload(t, rank.codes);
    p.f = p.codes.values;
    p.global_ids = t.Upload(rank.global_ids, "global ids");
    p.out = on + r * words;
    p.overflow = overflow;
    t.Check(cuda::PackWinners(p, t.stream()));
    entries += std::min(rank.codes.nnz(), capacity);
  }
  host.indptr.resize(At(kTokens + 1));
  host.ids.assign(At(room), -1);
  host.rows = host.ids;
  host.values.assign(At(room), -1);
  host.place.assign(At(ranks * capacity), -2);
  device::MergeWinnersParams p;
  p.all = winners.data();
  p.ranks = ranks;
  p.capacity = capacity;
  p.out = {kTokens,           room, host.indptr.data(), host.ids.data(), host.rows.data(),
           host.values.data()};
  p.place = host.place.data();
  p.overflow = &host.overflow;
  plain::MergeWinners(p);
  EXPECT_EQ(host.indptr.back(), std::min(entries, room));
  for (std::int64_t e = 1; e < host.indptr.back(); ++e) {
    if (host.rows[At(e)] == host.rows[At(e - 1)]) {
      EXPECT_LT(host.ids[At(e - 1)], host.ids[At(e)]);
    }
  }

  device::MergeWinnersParams q = p;
  q.all = on;
  q.out.indptr = t.Allocate<std::int32_t>(host.indptr.size(), "indptr");
  q.out.ids = t.Upload(std::vector<std::int32_t>(At(room), -1), "ids");
  q.out.rows = t.Upload(std::vector<std::int32_t>(At(room), -1), "rows");
  q.out.values = t.Upload(std::vector<float>(At(room), -1), "values");
  q.place = t.Upload(std::vector<std::int32_t>(host.place.size(), -2), "place");
  q.overflow = overflow;
  t.Check(cuda::MergeWinners(q, t.stream()));
  EXPECT_EQ(t.Download(q.out.indptr, host.indptr.size()), host.indptr);
  EXPECT_EQ(t.Download(q.out.ids, host.ids.size()), host.ids);
  EXPECT_EQ(t.Download(q.out.rows, host.rows.size()), host.rows);
  EXPECT_EQ(t.Download(q.out.values, host.values.size()), host.values);
  EXPECT_EQ(t.Download(q.place, host.place.size()), host.place);
  EXPECT_EQ(t.Download(overflow, 1)[0], host.overflow);

  const std::vector<float> others = Normal<float>(3, ranks * capacity);
  std::vector<float> placed(At(room), -1);
  device::PlaceValuesParams values{winners.data(), others.data(), host.place.data(), ranks,
                                   kTokens,        capacity,      placed.data()};
  plain::PlaceValues(values);
  if (host.overflow == 0 && entries > 0) {
    const std::int64_t last = winners[At(kTokens)] - 1;  // of rank 0
    if (last >= 0) {
      EXPECT_EQ(placed[At(host.place[At(last)])], others[At(last)]);
    }
  }
  values.winners = on;
  values.all = t.Upload(others, "others");
  values.place = q.place;
  values.out = t.Upload(std::vector<float>(At(room), -1), "placed");
  t.Check(cuda::PlaceValues(values, t.stream()));
  EXPECT_EQ(t.Download(values.out, placed.size()), placed);
}

TEST(MergeWinnersDevice, EqualsItsPartner) {
  for (const int ranks : {1, 2, 4, 8}) {
    RunDeviceTest([&](DeviceTest& t) { Exchange(t, ranks, 0.3, 320, 320); });
  }
  RunDeviceTest([](DeviceTest& t) { Exchange(t, 2, 0.0, 3, 6); });
}

TEST(MergeWinnersDevice, WhatDoesNotFitIsLeftOut) {
  RunDeviceTest([](DeviceTest& t) { Exchange(t, 2, 0.4, 50, 100); });
  RunDeviceTest([](DeviceTest& t) { Exchange(t, 4, 0.4, 100, 90); });
}

TEST(AddPartsDevice, BlocksAreAddedInOrder) {
  constexpr std::int64_t kStride = 300, kOwn = 90;
  const auto parts = Normal<float>(1, kColumnBlocks * kStride);
  std::vector<std::int32_t> place;
  for (std::int64_t e = 0; e < kOwn; ++e)
    place.push_back(e == 5 ? -1 : static_cast<std::int32_t>(3 * e));
  const std::int32_t entries = 281, own_entries = 77;
  std::vector<float> u(At(kStride), -1), own(At(kOwn), -1);
  device::AddPartsParams p{parts.data(), kStride,      &entries, u.data(),
                           &own_entries, place.data(), kOwn,     own.data()};
  plain::AddParts(p);
  float sum = parts[8];
  for (std::int64_t c = 1; c < kColumnBlocks; ++c) sum += parts[At(c * kStride + 8)];
  EXPECT_EQ(u[8], sum);
  EXPECT_EQ(own[76], u[228]);
  EXPECT_EQ(own[5], 0);
  RunDeviceTest([&](DeviceTest& t) {
    device::AddPartsParams on{t.Upload(parts, "parts"),
                              kStride,
                              testing::UploadScalar(t, entries, "entries"),
                              t.Upload(std::vector<float>(u.size(), -1), "u"),
                              testing::UploadScalar(t, own_entries, "own entries"),
                              t.Upload(place, "place"),
                              kOwn,
                              t.Upload(std::vector<float>(own.size(), -1), "own u")};
    t.Check(cuda::AddParts(on, t.stream()));
    EXPECT_EQ(t.Download(on.u, u.size()), u);
    EXPECT_EQ(t.Download(on.own_u, own.size()), own);
  });
}

TEST(AlongDevice, EqualsItsPartner) {
  constexpr std::int64_t kLatents = 21;
  HostCodes main = testing::MakeCodes(1, 400, kLatents, 0.05, 2);
  HostCodes aux = testing::MakeCodes(2, 400, kLatents, 0.02);
  const auto u = testing::PerEntry(3, main), aux_u = testing::PerEntry(4, aux);
  const auto gradient = Normal<float>(5, kLatents);
  std::vector<std::int32_t> where;
  for (std::int32_t i = 0; i < kLatents; ++i) where.push_back((i * 5) % 21);
  std::vector<double> norm2(At(kLatents), 1.21);
  norm2[4] = 0;
  for (const std::int32_t enabled : {0, 1}) {
    for (const bool unit : {true, false}) {
      std::vector<float> along(At(kLatents), -1);
      device::AlongParams p;
      p.latents = kLatents;
      p.terms_count = 2;
      p.terms[0] = {main.index(), main.values.data(), u.data(), nullptr};
      p.terms[1] = {aux.index(), aux.values.data(), aux_u.data(), &enabled};
      p.unit = unit;
      p.norm_gradient = gradient.data();
      p.where = where.data();
      p.norm2 = norm2.data();
      p.along = along.data();
      plain::Along(p);
      EXPECT_EQ(along[4], 0);
      if (!unit) {
        EXPECT_EQ(along[2], static_cast<float>(static_cast<double>(gradient[10]) / 1.1));
      }
      RunDeviceTest([&](DeviceTest& t) {
        device::AlongParams on = p;
        on.terms[0] = {testing::UploadIndex(t, main), t.Upload(main.values, "f"), t.Upload(u, "u"),
                       nullptr};
        on.terms[1] = {testing::UploadIndex(t, aux), t.Upload(aux.values, "aux f"),
                       t.Upload(aux_u, "aux u"), testing::UploadScalar(t, enabled, "enabled")};
        on.norm_gradient = t.Upload(gradient, "norm gradient");
        on.where = t.Upload(where, "where");
        on.norm2 = t.Upload(norm2, "norm2");
        on.along = t.Allocate<float>(along.size(), "along");
        t.Check(cuda::Along(on, t.stream()));
        testing::ExpectNear(t.Download(on.along, along.size()), along, 2e-7, "along");
      });
    }
  }
}

/// Parts of norms, some rows at rest; their sums; the rows' columns.
void Finish(DeviceTest& t, std::int64_t width, bool unit, std::int32_t go) {
  constexpr std::int64_t kLatents = 13, kBlocks = 2;
  std::vector<float> parts = Normal<float>(1, kColumnBlocks * kLatents);
  for (std::int64_t c = 0; c < kColumnBlocks; ++c) {
    for (std::int64_t i = 0; i < kLatents; ++i) {
      float& part = parts[At(c * kLatents + i)];
      part = std::abs(part);
      if (i % 4 == 1 || (i % 4 == 2 && c > 2)) part = -part;
    }
  }
  std::vector<double> sums(At(kLatents)), norm2(At(kLatents), -1);
  plain::SumNormParts({parts.data(), kLatents, sums.data()});
  EXPECT_TRUE(std::signbit(sums[1]));
  EXPECT_FALSE(std::signbit(sums[2]));
  double* const on_sums = t.Allocate<double>(sums.size(), "sums");
  t.Check(cuda::SumNormParts({t.Upload(parts, "parts"), kLatents, on_sums}, t.stream()));
  EXPECT_EQ(t.Download(on_sums, sums.size()), sums);

  SplitWeights w(Normal<float>(2, kBlocks * kLatents * width));
  device::FinishColumnsParams p{{t.Upload(w.hi, "hi"), t.Upload(w.lo, "lo")},
                                kBlocks,
                                kLatents,
                                width,
                                unit,
                                on_sums,
                                t.Upload(norm2, "norm2"),
                                testing::UploadScalar(t, go, "go")};
  const std::vector<float> before = w.exact;
  plain::FinishColumns(
      {w.mutable_view(), kBlocks, kLatents, width, unit, sums.data(), norm2.data(), &go});
  EXPECT_EQ(w.Joined() == before, !unit || go == 0);
  EXPECT_EQ(w.Joined()[At(width)], before[At(width)]);  // latent 1 rests
  t.Check(cuda::FinishColumns(p, t.stream()));
  EXPECT_EQ(t.Download(p.w.hi, w.hi.size()), w.hi);
  EXPECT_EQ(t.Download(p.w.lo, w.lo.size()), w.lo);
  testing::ExpectNear(t.Download(p.norm2, norm2.size()), norm2, 1e-15, "norm2");
  if (unit && go != 0) {
    EXPECT_NEAR(norm2[0], 1, 1e-6);
  }
}

TEST(FinishColumnsDevice, EqualsItsPartner) {
  for (const std::int64_t width : {3, 4, 160}) {
    for (const bool unit : {true, false}) {
      RunDeviceTest([&](DeviceTest& t) { Finish(t, width, unit, 1); });
    }
  }
  RunDeviceTest([](DeviceTest& t) { Finish(t, 3, true, 0); });
}

TEST(ShardNormsDevice, EqualsItsPartner) {
  const std::vector<double> norm2 = {1, 4, 9, 2};
  const std::vector<std::int32_t> ids = {3, 0, 2};
  std::vector<float> norms(3);
  plain::ShardNorms({norm2.data(), ids.data(), 3, norms.data()});
  EXPECT_EQ(norms, (std::vector<float>{std::sqrt(2.0F), 1, 3}));
  RunDeviceTest([&](DeviceTest& t) {
    device::ShardNormsParams p{t.Upload(norm2, "norm2"), t.Upload(ids, "ids"), 3,
                               t.Allocate<float>(3, "norms")};
    t.Check(cuda::ShardNorms(p, t.stream()));
    EXPECT_EQ(t.Download(p.norms, 3), norms);
  });
}

struct UpdateCase {
  std::int64_t width = 12;
  bool norm_gradient = false, measure = false;
  std::int64_t tokens = 23, hot = 0;
  std::int32_t go = 1;
  int quads = 0;
};

/// One block's part of a step.
void Update(DeviceTest& t, const UpdateCase& c) {
  constexpr std::int64_t kLatents = 15, kChunk = 5, kStride = 7;
  HostCodes main = testing::MakeCodes(1, c.tokens, kLatents, 0.15, c.hot);
  HostCodes aux = testing::MakeCodes(2, c.tokens, kLatents, 0.1);
  const auto g = Normal<float>(3, c.tokens * c.width), g2 = Normal<float>(4, c.tokens * c.width);
  const auto along = Normal<float>(5, kLatents);
  SplitWeights w(Normal<float>(6, kLatents * c.width));
  std::vector<float> m = Normal<float>(7, kLatents * c.width, 0.01), v;
  for (std::size_t i = 0; i < m.size(); ++i) {
    v.push_back(m[i] * m[i] + 1e-6F);
    if (i / At(c.width) % 3 == 0) m[i] = 0;
  }
  std::vector<double> norms(At(kLatents), -1);
  std::vector<float> norm2(At(kLatents / kChunk * kStride), -1);
  const device::AdamScalars adam{0.01, 0.9, 0.99, 1e-8, 0.4, 0.05, 5};
  const double scale = 0.37;
  const auto shape = [&] {
    RowUpdateParams p;
    p.latents = kLatents;
    p.d_out = c.width;
    p.rule = device::RowRule::kFree;
    p.terms_count = 2;
    p.measure_only = c.measure;
    p.columns.chunk = kChunk;
    p.columns.stride = kStride;
    p.tuning.quads = c.quads;
    return p;
  };
  RowUpdateParams p = shape();
  p.terms[0] = {main.index(), main.rows.data(), main.values.data(), nullptr, g.data(), 0,
                14,           nullptr};
  p.terms[1] = {aux.index(), aux.rows.data(), aux.values.data(), nullptr, g2.data()};
  p.w_dec = w.mutable_view();
  p.dec_moments = {device::MomentFormat::kF32, m.data(), v.data(), nullptr, nullptr};
  if (c.norm_gradient) p.norm_gradient = along.data();
  p.adam = &adam;
  p.gradient_scale = &scale;
  p.go = &c.go;
  p.norms = norms.data();
  p.columns.along = along.data();
  p.columns.norm2 = norm2.data();

  RowUpdateParams q = shape();
  q.terms[0] = {testing::UploadIndex(t, main),
                t.Upload(main.rows, "rows"),
                t.Upload(main.values, "f"),
                nullptr,
                t.Upload(g, "g"),
                0,
                14,
                nullptr};
  q.terms[1] = {testing::UploadIndex(t, aux), t.Upload(aux.rows, "aux rows"),
                t.Upload(aux.values, "aux f"), nullptr, t.Upload(g2, "aux g")};
  q.w_dec = {t.Upload(w.hi, "hi"), t.Upload(w.lo, "lo")};
  float *const on_m = t.Upload(m, "m"), *const on_v = t.Upload(v, "v");
  q.dec_moments = {device::MomentFormat::kF32, on_m, on_v, nullptr, nullptr};
  const float* const on_along = t.Upload(along, "along");
  if (c.norm_gradient) q.norm_gradient = on_along;
  q.adam = testing::UploadScalar(t, adam, "adam");
  q.gradient_scale = testing::UploadScalar(t, scale, "gradient scale");
  q.go = testing::UploadScalar(t, c.go, "go");
  q.norms = t.Upload(norms, "norms");
  q.columns.along = on_along;
  q.columns.norm2 = t.Upload(norm2, "norm2");

  plain::RowUpdate(p);
  t.Check(cuda::RowUpdate(q, t.stream()));
  SplitWeights out = w;
  out.hi = t.Download(q.w_dec.hi, w.hi.size());
  out.lo = t.Download(q.w_dec.lo, w.lo.size());
  const double bound = c.hot > 0 ? 1e-6 : 0;  // long lists are added in another order
  testing::ExpectNear(out.Joined(), w.Joined(), bound, "w");
  testing::ExpectNear(t.Download(on_m, m.size()), m, bound * 10, "m");
  testing::ExpectNear(t.Download(on_v, v.size()), v, bound * 10, "v");
  testing::ExpectNear(t.Download(q.norms, norms.size()), norms, 1e-6, "norms");
  const std::vector<float> parts = t.Download(q.columns.norm2, norm2.size());
  testing::ExpectNear(parts, norm2, 1e-6, "norm2");
  for (std::size_t i = 0; i < parts.size(); ++i)
    EXPECT_EQ(std::signbit(parts[i]), std::signbit(norm2[i])) << i;
}

TEST(ColumnRowsDevice, EqualTheirPartner) {
  for (const std::int64_t width : {3, 12, 256, 300}) {
    for (const int quads : {0, -1}) {
      RunDeviceTest([&](DeviceTest& t) { Update(t, {.width = width, .quads = quads}); });
      RunDeviceTest([&](DeviceTest& t) {
        Update(t, {.width = width, .norm_gradient = true, .measure = width == 12, .quads = quads});
      });
    }
  }
  RunDeviceTest([](DeviceTest& t) { Update(t, {.go = 0}); });
}

TEST(ColumnRowsDevice, LongListsAreShared) {
  RunDeviceTest([](DeviceTest& t) { Update(t, {.tokens = 600, .hot = 2}); });
}

TEST(ColumnRowsDevice, EveryBarrierIsNeeded) {
  ExpectBarriersNeeded([](DeviceTest& t) { Update(t, {.width = 300, .quads = -1}); });
}

}  // namespace
}  // namespace sae::kernels
