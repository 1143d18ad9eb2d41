// The device's chunk loop against the CPU engine's: the same bits under the executor; on a GPU with
// whole numbers only, where every order of additions gives the same sums.
#include <algorithm>
#include <limits>
#include <tuple>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/device/encode.h"
#include "sae/kernels/device/prepare_test_data.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/encode_test_data.h"
#include "tests/simt/device_test.h"

namespace sae::kernels {
namespace {

using device::EncodeParams;
using sae::testing::DeviceTest;
using sae::testing::RunDeviceTest;
using testing::Problem;
using testing::Shape;
using testing::SplitRows;

std::size_t At(std::int64_t i) { return static_cast<std::size_t>(i); }

struct EncodeCase {
  Shape shape;
  device::EncodeSchedule schedule;
  bool whole_numbers = true;
  float scale = 1;
};

/// One problem on both sides, float32 products.
struct Both {
  Problem<float> problem;
  SplitRows rows;
  EncodeParams params;
  std::int32_t* finite;

  Both(DeviceTest& t, const EncodeCase& s)
      : problem(s.whole_numbers ? Problem<float>::Ties(s.shape) : Problem<float>::Random(s.shape)),
        rows(problem.w) {
    problem.input.scale = s.scale;
    params.w = {t.Upload(rows.hi, "hi"), t.Upload(rows.lo, "lo")};
    params.c = t.Upload(problem.c, "c");
    params.latents = s.shape.latents;
    params.d = s.shape.d;
    params.x = t.Upload(problem.x, "x");
    params.tokens = s.shape.tokens;
    params.scale = s.scale;
    params.exact = true;
    finite = t.Upload(std::vector<std::int32_t>{1}, "finite");
    params.finite = finite;
    params.schedule = s.schedule;
    AllocateScratch(t);
  }
  void AllocateScratch(DeviceTest& t) {
    params.scratch = t.Allocate<char>(At(EncodeScratchBytes(params)), "scratch");
  }
};

/// (token, id, value), sorted.
using Entries = std::vector<std::tuple<std::int64_t, std::int64_t, float>>;

Entries Download(DeviceTest& t, std::int64_t tokens, std::int64_t width, const float* values,
                 const std::int32_t* ids, const std::int32_t* counts) {
  Entries out;
  const std::vector<std::int32_t> got = t.Download(counts, At(tokens));
  for (std::int64_t token = 0; token < tokens; ++token) {
    const std::size_t count = At(got[At(token)]);
    const std::vector<float> own = t.Download(values + token * width, count);
    const std::vector<std::int32_t> own_ids = t.Download(ids + token * width, count);
    for (std::size_t i = 0; i < count; ++i) out.emplace_back(token, own_ids[i], own[i] + 0.0F);
  }
  std::sort(out.begin(), out.end());
  return out;
}

device::Slots EmptySlots(DeviceTest& t, std::int64_t tokens, std::int64_t capacity) {
  return {t.Allocate<float>(At(tokens * capacity), "slot values"),
          t.Allocate<std::int32_t>(At(tokens * capacity), "slot ids"),
          t.Allocate<std::int32_t>(At(tokens), "slot counts"),
          tokens,
          capacity,
          t.Upload(std::vector<std::int32_t>{0}, "overflow")};
}

Entries EntriesOf(const Codes<float>& codes) {
  Entries out;
  for (std::int64_t token = 0; token < codes.tokens; ++token) {
    for (std::int64_t e = codes.indptr[At(token)]; e < codes.indptr[At(token + 1)]; ++e)
      out.emplace_back(token, codes.ids[At(e)], codes.values[At(e)]);
  }
  std::sort(out.begin(), out.end());
  return out;
}

void TopKMatches(DeviceTest& t, const EncodeCase& s) {
  Both both(t, s);
  const std::int64_t tokens = s.shape.tokens;
  const std::int64_t k = s.shape.k;
  const device::TopKState state = {k, t.Allocate<float>(At(tokens * k), "values"),
                                   t.Allocate<std::int32_t>(At(tokens * k), "ids"),
                                   t.Allocate<std::int32_t>(At(tokens), "counts")};
  t.Check(EncodeTopK(t.library(), both.params, state, t.stream()));
  EncodeWorkspace<float> workspace;
  TopK<float> top;
  ThreadPool pool(1);
  ASSERT_TRUE(EncodeTopK(both.problem.input, k, &workspace, &top, pool));
  Entries expected;
  for (std::int64_t i = 0; i < tokens * top.width; ++i)
    expected.emplace_back(i / top.width, top.ids[At(i)], top.values[At(i)] + 0.0F);
  std::sort(expected.begin(), expected.end());
  EXPECT_EQ(Download(t, tokens, k, state.values, state.ids, state.counts), expected);
  EXPECT_EQ(t.Download(both.finite, 1)[0], 1);
}

void AboveMatches(DeviceTest& t, const EncodeCase& s) {
  Both both(t, s);
  std::vector<float> lower;
  for (std::int64_t i = 0; i < s.shape.latents; ++i) lower.push_back(static_cast<float>(i % 3));
  const device::Slots slots = EmptySlots(t, s.shape.tokens, s.shape.latents);
  for (const bool given : {true, false}) {
    t.Check(EncodeAbove(t.library(), both.params, given ? t.Upload(lower, "lower") : nullptr, slots,
                        t.stream()));
    EncodeWorkspace<float> workspace;
    Codes<float> codes;
    ThreadPool pool(1);
    ASSERT_TRUE(EncodeAbove(both.problem.input, given ? lower.data() : nullptr, 0.0F, &workspace,
                            &codes, pool));
    EXPECT_EQ(Download(t, s.shape.tokens, slots.capacity, slots.values, slots.ids, slots.counts),
              EntriesOf(codes));
    EXPECT_EQ(t.Download(slots.overflow, 1)[0], 0);
  }
}

/// Entries of the plain order of the whole batch down to the wanted-th value, ties included.
void LargestMatches(DeviceTest& t, const EncodeCase& s, std::int64_t wanted) {
  Both both(t, s);
  device::LargestParams largest;
  largest.wanted = wanted;
  largest.slots = EmptySlots(t, s.shape.tokens, s.shape.latents);
  largest.cut = t.Allocate<device::BatchCut>(1, "cut");
  largest.histogram = t.Allocate<std::int64_t>(At(device::kRadixBins), "histogram");
  largest.floor = t.Allocate<float>(1, "floor");
  t.Check(EncodeLargest(t.library(), both.params, largest, t.stream()));
  EncodeWorkspace<float> workspace;
  Codes<float> codes;
  ThreadPool pool(1);
  ASSERT_TRUE(EncodeAbove(both.problem.input, static_cast<const float*>(nullptr), 0.0F, &workspace,
                          &codes, pool));
  Entries expected = EntriesOf(codes);
  if (std::ssize(expected) > wanted) {
    std::vector<float> values = codes.values;
    std::sort(values.begin(), values.end(), [](float a, float b) { return a > b; });
    const float cut = values[At(wanted - 1)];
    std::erase_if(expected, [&](const auto& e) { return std::get<2>(e) < cut; });
  }
  EXPECT_EQ(Download(t, s.shape.tokens, largest.slots.capacity, largest.slots.values,
                     largest.slots.ids, largest.slots.counts),
            expected)
      << wanted;
  EXPECT_EQ(t.Download(largest.slots.overflow, 1)[0], 0);
}

const EncodeCase kCases[] = {{{1, 1, 1, 1}, {}},
                             {{5, 150, 3, 7}, {2, 37, 0}},
                             {{9, 210, 17, 40}, {4, 64, 8}},
                             {{7, 130, 33, 200}, {16, 50, 3}},
                             {{5, 150, 3, 7}, {2, 37, 0, 40}},
                             {{9, 210, 17, 40}, {4, 64, 8, 30}},
                             {{6, 170, 21, 12}, {4, 64, 8}, false, 0.37F},
                             {{6, 170, 21, 12}, {4, 64, 8, 200}, false, 0.37F},
                             {{3, 90, 40, 5}, {2, 1000, 0}, false}};

TEST(DeviceEncode, TopKIsTheCpuEngines) {
  for (const EncodeCase& s : kCases) {
    RunDeviceTest([&](DeviceTest& t) {
      if (s.whole_numbers || !t.on_gpu()) TopKMatches(t, s);
    });
  }
}

TEST(DeviceEncode, AboveIsTheCpuEngines) {
  for (const EncodeCase& s : kCases) {
    RunDeviceTest([&](DeviceTest& t) {
      if (s.whole_numbers || !t.on_gpu()) AboveMatches(t, s);
    });
  }
}

TEST(DeviceEncode, LargestHoldsTheFirstOfTheBatch) {
  for (const EncodeCase& s : kCases) {
    for (const std::int64_t wanted : {s.shape.tokens * 7, std::int64_t{100000}}) {
      RunDeviceTest([&](DeviceTest& t) {
        if (s.whole_numbers || !t.on_gpu()) LargestMatches(t, s, wanted);
      });
    }
  }
}

TEST(DeviceEncode, ReportsATokenThatExceedsItsCapacity) {
  RunDeviceTest([](DeviceTest& t) {
    Both both(t, kCases[1]);
    const device::Slots slots = EmptySlots(t, 5, 3);
    t.Check(EncodeAbove(t.library(), both.params, nullptr, slots, t.stream()));
    EXPECT_EQ(t.Download(slots.overflow, 1)[0], 1);
  });
}

// Of bfloat16 halves: a latent's products have the same bits wherever it lies, with whatever
// others.
TEST(DeviceEncode, ProductsOfAFixedShapeBelongToTheLatentAlone) {
  RunDeviceTest([](DeviceTest& t) {
    const std::int64_t tokens = 5, latents = 60, d = 33;
    const auto values = [&](std::int64_t first, std::int64_t count) {
      EncodeCase s = {{tokens, latents, d, 4}, {3, 7, 2, 16}, false, 0.37F};
      Both both(t, s);
      std::vector<std::uint16_t> x_bf16;
      for (const float v : both.problem.x) x_bf16.push_back(FloatToBf16(v));
      both.params.exact = false;
      both.params.x_bf16 = t.Upload(x_bf16, "x_bf16");
      both.params.w.hi += first * d;
      both.params.w.lo += first * d;
      both.params.c += first;
      both.params.latents = count;
      both.AllocateScratch(t);
      const device::Slots slots = EmptySlots(t, tokens, latents);
      const std::vector<float> lower(At(count), -1e9F);
      t.Check(EncodeAbove(t.library(), both.params, t.Upload(lower, "lower"), slots, t.stream()));
      Entries out = Download(t, tokens, latents, slots.values, slots.ids, slots.counts);
      for (auto& entry : out) std::get<1>(entry) += first;
      return out;
    };
    const Entries all = values(0, latents);
    EXPECT_EQ(std::ssize(all), tokens * latents);
    Entries parts = values(0, 23);
    for (const auto& entry : values(23, latents - 23)) parts.push_back(entry);
    std::sort(parts.begin(), parts.end());
    EXPECT_EQ(parts, all);
  });
}

TEST(DeviceEncode, SubsetsAreTheRowsThatTheDeviceCounts) {
  for (const auto& [exact, fixed] : {std::pair{true, 0}, {false, 0}, {true, 9}, {false, 32}}) {
    RunDeviceTest([&](DeviceTest& t) {
      const EncodeCase s = {{5, 60, 6, 4}, {2, 7, 2, fixed}};
      Both both(t, s);
      std::vector<std::int32_t> ids;
      for (std::int32_t i = 0; i < 20; ++i) ids.push_back(3 * i + 1);
      const std::int64_t count = 11;
      std::vector<std::uint16_t> x_bf16;  // small integers: exact
      for (const float v : both.problem.x) x_bf16.push_back(FloatToBf16(v));
      both.params.exact = exact;
      both.params.x_bf16 = t.Upload(x_bf16, "x_bf16");
      both.params.ids = t.Upload(ids, "ids");
      both.params.id_count =
          t.Upload(std::vector<std::int32_t>{static_cast<std::int32_t>(count)}, "id count");
      both.params.id_limit = std::ssize(ids);
      both.AllocateScratch(t);
      const device::TopKState state = {4, t.Allocate<float>(20, "values"),
                                       t.Allocate<std::int32_t>(20, "state ids"),
                                       t.Allocate<std::int32_t>(5, "counts")};
      t.Check(EncodeTopK(t.library(), both.params, state, t.stream()));
      EncodeInput<float> input = both.problem.input;
      input.subset = ids.data();
      input.subset_size = count;
      EncodeWorkspace<float> workspace;
      TopK<float> top;
      ThreadPool pool(1);
      ASSERT_TRUE(EncodeTopK(input, 4, &workspace, &top, pool));
      Entries expected;
      for (std::int64_t i = 0; i < 20; ++i)
        expected.emplace_back(i / 4, top.ids[At(i)], top.values[At(i)] + 0.0F);
      std::sort(expected.begin(), expected.end());
      EXPECT_EQ(Download(t, 5, 4, state.values, state.ids, state.counts), expected);
    });
  }
}

TEST(DeviceEncode, StepsRunFromAGraph) {
  RunDeviceTest([](DeviceTest& t) {
    const EncodeCase& s = kCases[2];
    Both both(t, s);
    const std::int64_t tokens = s.shape.tokens;
    device::LargestParams largest;
    largest.wanted = 5 * tokens;
    largest.slots = EmptySlots(t, tokens, s.shape.latents);
    largest.cut = t.Allocate<device::BatchCut>(1, "cut");
    largest.histogram = t.Allocate<std::int64_t>(At(device::kRadixBins), "histogram");
    largest.floor = t.Allocate<float>(1, "floor");
    t.Check(EncodeLargest(t.library(), both.params, largest, t.stream()));
    const Entries expected = Download(t, tokens, largest.slots.capacity, largest.slots.values,
                                      largest.slots.ids, largest.slots.counts);
    t.Check(t.runtime().BeginCapture(t.stream()));
    const Error error = EncodeLargest(t.library(), both.params, largest, t.stream());
    const auto graph = t.runtime().EndCapture(t.stream());
    t.Check(error);
    t.Check(graph.status());
    for (int step = 0; step < 2; ++step) {
      t.Check(t.runtime().LaunchGraph(*graph, t.stream()));
      EXPECT_EQ(Download(t, tokens, largest.slots.capacity, largest.slots.values, largest.slots.ids,
                         largest.slots.counts),
                expected);
    }
    t.runtime().DestroyGraph(*graph);
  });
}

TEST(DeviceEncode, NanClearsFinite) {
  RunDeviceTest([](DeviceTest& t) {
    Both both(t, kCases[1]);
    std::vector<float> x = both.problem.x;
    x[4] = std::numeric_limits<float>::quiet_NaN();
    both.params.x = t.Upload(x, "x with NaN");
    const device::TopKState state = {2, t.Allocate<float>(10, "values"),
                                     t.Allocate<std::int32_t>(10, "ids"),
                                     t.Allocate<std::int32_t>(5, "counts")};
    t.Check(EncodeTopK(t.library(), both.params, state, t.stream()));
    EXPECT_EQ(t.Download(both.finite, 1)[0], 0);
  });
}

}  // namespace
}  // namespace sae::kernels
