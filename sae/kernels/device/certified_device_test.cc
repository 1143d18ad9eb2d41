// Certified top-k on the device: bounds and lists against the partners; the whole against the CPU
// engine's certified selection and against all pre-activations, bit for bit.
#include <algorithm>
#include <tuple>
#include <utility>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/certified_test_data.h"
#include "sae/kernels/device/encode.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/screen.h"
#include "tests/simt/mutation.h"

namespace sae::kernels {
namespace {

using sae::testing::DeviceTest;
using sae::testing::RunDeviceTest;
using testing::CertifiedProblem;
using testing::SplitRows;

std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

using Entries = std::vector<std::pair<float, std::int64_t>>;

/// All latents of a token by ReferenceZ, the first k of them.
Entries WholeRow(const CertifiedProblem& p, std::int64_t t) {
  Entries all;
  for (std::int64_t i = 0; i < p.latents; ++i) {
    const float dot = ReferenceDot(p.d, p.w.data() + i * p.d, p.x.data() + t * p.d);
    const float z = ReferenceZ(p.scale, dot, p.c[At(i)]);
    if (z > -HUGE_VALF) all.emplace_back(-z, i);
  }
  std::sort(all.begin(), all.end());
  if (std::ssize(all) > p.k) all.resize(At(p.k));
  for (auto& [value, id] : all) value = 0.0F - value;
  return all;
}

struct OnDevice {
  SplitRows rows;
  device::EncodeParams params;
  device::TopKState state;
  device::CertifiedStats* stats;

  OnDevice(DeviceTest& t, const CertifiedProblem& p, const device::EncodeSchedule& schedule)
      : rows(p.w) {
    params.w = {t.Upload(rows.hi, "hi"), p.has_lo ? t.Upload(rows.lo, "lo") : nullptr};
    params.c = t.Upload(p.c, "c");
    params.latents = p.latents;
    params.d = p.d;
    params.x = t.Upload(p.x, "x");
    std::vector<std::uint16_t> x_bf16;
    for (const float v : p.x) x_bf16.push_back(FloatToBf16(v));
    params.x_bf16 = t.Upload(x_bf16, "x_bf16");
    params.tokens = p.tokens;
    params.scale = p.scale;
    params.finite = t.Upload(std::vector<std::int32_t>{1}, "finite");
    params.schedule = schedule;
    params.scratch = t.Allocate<char>(At(CertifiedScratchBytes(params, p.k)), "scratch");
    state = {p.k, t.Allocate<float>(At(p.tokens * p.k), "values"),
             t.Allocate<std::int32_t>(At(p.tokens * p.k), "ids"),
             t.Allocate<std::int32_t>(At(p.tokens), "counts")};
    stats = t.Upload(std::vector<device::CertifiedStats>(1), "stats");
  }

  Entries State(DeviceTest& t, std::int64_t token) const {
    const std::size_t count = At(t.Download(state.counts, At(params.tokens))[At(token)]);
    const std::vector<float> values = t.Download(state.values + token * state.k, count);
    const std::vector<std::int32_t> ids = t.Download(state.ids + token * state.k, count);
    Entries out;
    for (std::size_t i = 0; i < count; ++i) out.emplace_back(-values[i], ids[i]);
    std::sort(out.begin(), out.end());
    for (auto& [value, id] : out) value = 0.0F - value;
    return out;
  }
};

void WholeSelectionMatches(DeviceTest& t, const CertifiedProblem& p,
                           const device::EncodeSchedule& schedule) {
  const OnDevice on_device(t, p, schedule);
  t.Check(EncodeCertifiedTopK(t.library(), on_device.params, on_device.state, on_device.stats,
                              t.stream()));
  for (std::int64_t token = 0; token < p.tokens; ++token)
    EXPECT_EQ(on_device.State(t, token), WholeRow(p, token)) << p.name << " token " << token;
  EXPECT_EQ(t.Download(on_device.params.finite, 1)[0], p.name.starts_with("NaN") ? 0 : 1) << p.name;
  const device::CertifiedStats stats = t.Download(on_device.stats, 1)[0];
  if (p.name == "random") {
    EXPECT_EQ(stats.whole, 0);
    EXPECT_LT(stats.candidates, 3 * p.k * p.tokens);
    EXPECT_GE(stats.candidates, p.k * p.tokens);
  }
  if (p.name.starts_with("more equal rows")) {
    EXPECT_EQ(stats.whole, p.tokens);
  }
}

TEST(DeviceCertified, SelectsWhatAllPreActivationsSelect) {
  for (const CertifiedProblem& p : testing::CertifiedProblems()) {
    for (const device::EncodeSchedule& schedule :
         {device::EncodeSchedule{2, 64, 16}, device::EncodeSchedule{}}) {
      RunDeviceTest([&](DeviceTest& t) { WholeSelectionMatches(t, p, schedule); });
    }
  }
}

TEST(DeviceCertified, SelectsWhatTheCpuEngineSelects) {
  const CertifiedProblem p = testing::RandomProblem("cpu", 20, 300, 45, 7);
  ThreadPool pool(1);
  Screen screen(p.latents, p.d, true);
  screen.Prepare(p.w.data(), pool);
  screen.PrepareTokens(p.x.data(), p.tokens, pool);
  EncodeInput<float> input;
  input.x = p.x.data();
  input.tokens = p.tokens;
  input.d = p.d;
  input.w = p.w.data();
  input.c = p.c.data();
  input.latents = p.latents;
  input.screen = &screen;
  EncodeWorkspace<float> workspace;
  TopK<float> top;
  ASSERT_TRUE(EncodeTopK(input, p.k, &workspace, &top, pool));
  RunDeviceTest([&](DeviceTest& t) {
    const OnDevice on_device(t, p, {8, 100, 10});
    t.Check(
        EncodeCertifiedTopK(t.library(), on_device.params, on_device.state, nullptr, t.stream()));
    for (std::int64_t token = 0; token < p.tokens; ++token) {
      Entries expected;
      for (std::int64_t i = token * p.k; i < (token + 1) * p.k; ++i)
        expected.emplace_back(top.values[At(i)], top.ids[At(i)]);
      EXPECT_EQ(on_device.State(t, token), expected);
    }
  });
}

/// Bounds of the problem on both sides, and then the lists after chunks of `columns`.
void ListsMatch(DeviceTest& t, const CertifiedProblem& p, std::int64_t columns,
                std::int64_t limit) {
  const OnDevice on_device(t, p, {});
  const SplitRows& rows = on_device.rows;
  std::vector<float> bounds[6];
  float* device_bounds[6];
  for (int i = 0; i < 6; ++i) {
    bounds[i].resize(At(i < 3 ? p.latents : p.tokens));
    device_bounds[i] = t.Allocate<float>(bounds[i].size(), "bounds");
  }
  const device::LatentBounds latents = {bounds[0].data(), bounds[1].data(), bounds[2].data()};
  const device::TokenBounds tokens = {bounds[3].data(), bounds[4].data(), bounds[5].data()};
  plain::BoundLatents(
      {{rows.hi.data(), p.has_lo ? rows.lo.data() : nullptr}, p.c.data(), p.latents, p.d, latents});
  plain::BoundTokens({p.x.data(), p.tokens, p.d, p.scale, tokens});
  const device::LatentBounds device_latents = {device_bounds[0], device_bounds[1],
                                               device_bounds[2]};
  const device::TokenBounds device_tokens = {device_bounds[3], device_bounds[4], device_bounds[5]};
  t.Check(cuda::BoundLatents(
      {on_device.params.w, on_device.params.c, p.latents, p.d, device_latents}, t.stream()));
  t.Check(
      cuda::BoundTokens({on_device.params.x, p.tokens, p.d, p.scale, device_tokens}, t.stream()));
  for (int i = 0; i < 6; ++i)
    EXPECT_EQ(t.Download(device_bounds[i], bounds[i].size()), bounds[i]) << p.name << " " << i;

  std::vector<float> products;
  for (std::int64_t token = 0; token < p.tokens; ++token) {
    for (std::int64_t i = 0; i < p.latents; ++i) {
      float sum = 0;
      for (std::int64_t j = 0; j < p.d; ++j) {
        sum += Bf16ToFloat(rows.hi[At(i * p.d + j)]) *
               Bf16ToFloat(FloatToBf16(p.x[At(token * p.d + j)]));
      }
      products.push_back(sum);
    }
  }
  std::vector<float> upper(At(p.tokens * limit)), lower(upper);
  std::vector<std::int32_t> ids(upper.size()), counts(At(p.tokens), 0);
  std::vector<std::uint32_t> floors(At(p.tokens), 0);
  device::ScreenChunkParams host;
  host.chunk.ld = p.latents;
  host.chunk.tokens = p.tokens;
  host.chunk.scale = p.scale;
  host.k = p.k;
  device::ScreenChunkParams s = host;
  host.latents = latents;
  host.tokens = tokens;
  host.lists = {upper.data(), lower.data(), ids.data(), counts.data(), floors.data(), limit};
  s.latents = device_latents;
  s.tokens = device_tokens;
  s.lists = {t.Allocate<float>(upper.size(), "upper"),
             t.Allocate<float>(upper.size(), "lower"),
             t.Allocate<std::int32_t>(upper.size(), "list ids"),
             t.Upload(counts, "list counts"),
             t.Upload(floors, "floors"),
             limit};
  const float* device_products = t.Upload(products, "products");
  for (std::int64_t first = 0; first < p.latents; first += columns) {
    for (device::ScreenChunkParams* each : {&host, &s}) {
      each->chunk.products = (each == &s ? device_products : products.data()) + first;
      each->chunk.columns = std::min(columns, p.latents - first);
      each->chunk.c = (each == &s ? on_device.params.c : p.c.data()) + first;
      each->chunk.first_id = static_cast<std::int32_t>(first);
    }
    plain::ScreenChunk(host);
    t.Check(cuda::ScreenChunk(s, t.stream()));
  }
  const std::vector<std::int32_t> got = t.Download(s.lists.counts, counts.size());
  const std::vector<std::uint32_t> got_floors = t.Download(s.lists.floors, floors.size());
  using Candidate = std::tuple<std::int32_t, float, float>;
  for (std::int64_t token = 0; token < p.tokens; ++token) {
    if (counts[At(token)] < 0) {
      EXPECT_EQ(got[At(token)], -1) << p.name;
    }
    if (got[At(token)] < 0) continue;  // perhaps only for a while more than the limit
    EXPECT_EQ(got_floors[At(token)], floors[At(token)]) << p.name;
    const std::size_t count = At(got[At(token)]);
    const auto got_ids = t.Download(s.lists.ids + token * limit, count);
    const auto got_lower = t.Download(s.lists.lower + token * limit, count);
    const auto got_upper = t.Download(s.lists.upper + token * limit, count);
    std::vector<Candidate> list, expected;
    for (std::size_t i = 0; i < count; ++i)
      list.emplace_back(got_ids[i], got_lower[i], got_upper[i]);
    for (std::int64_t i = token * limit; i < token * limit + counts[At(token)]; ++i)
      expected.emplace_back(ids[At(i)], lower[At(i)], upper[At(i)]);
    std::sort(list.begin(), list.end());
    std::sort(expected.begin(), expected.end());
    EXPECT_EQ(list, expected) << p.name;
  }
  if (p.name == "random") {
    EXPECT_GT(*std::min_element(got.begin(), got.end()), 0);
  }
}

TEST(DeviceCertified, BoundsAndListsMatchTheirPartners) {
  for (const CertifiedProblem& p : testing::CertifiedProblems()) {
    RunDeviceTest([&](DeviceTest& t) { ListsMatch(t, p, 170, 2 * p.k + 60); });
    RunDeviceTest([&](DeviceTest& t) { ListsMatch(t, p, p.latents, 2 * p.k + 20); });
  }
}

TEST(DeviceCertified, EveryBarrierIsNeeded) {
  sae::testing::ExpectBarriersNeeded([](DeviceTest& t) {
    ListsMatch(t, testing::RandomProblem("random", 1, 1300, 3, 12), 1300, 60);
    CertifiedProblem few = testing::RandomProblem("fewer than k", 1, 60, 3, 70);
    for (std::size_t i = 0; i < 60; i += 7) few.c[i] = -HUGE_VALF;  // places are not columns
    ListsMatch(t, few, 60, 70);
    WholeSelectionMatches(t, testing::RandomProblem("rescored", 1, 200, 3, 9), {});
    CertifiedProblem whole = testing::RandomProblem("a token that cannot be screened", 1, 40, 3, 9);
    whole.x[0] = 1e16F;
    WholeSelectionMatches(t, whole, {});
  });
}

TEST(DeviceCertified, RefuseSizesOutOfRange) {
  EXPECT_EQ(cuda::BoundLatents({}, nullptr), Error::kInvalidArgument);
  EXPECT_EQ(cuda::BoundTokens({}, nullptr), Error::kInvalidArgument);
  device::ScreenChunkParams screen;
  screen.chunk.tokens = 1;
  screen.chunk.columns = 1;
  EXPECT_EQ(cuda::ScreenChunk(screen, nullptr), Error::kInvalidArgument);
  EXPECT_EQ(cuda::Rescore({}, nullptr), Error::kInvalidArgument);
}

}  // namespace
}  // namespace sae::kernels
