#include "sae/kernels/filter.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <vector>

#include <gtest/gtest.h>

#include "sae/kernels/test_data.h"
#include "sae/kernels/topk.h"

namespace sae::kernels {
namespace {

// The plain filter: what the SIMD loops must give bit for bit.
template <class T>
T PlainValue(const FilterRow<T>& row, std::int64_t j) {
  return FilterFuses() ? std::fma(row.scale, row.z[j], row.c[j]) : row.scale * row.z[j] + row.c[j];
}

template <class T>
struct Survivors {
  std::vector<T> values;
  std::vector<std::int32_t> ids;
  bool nan = false;
};

template <class T, class Keep>
Survivors<T> PlainFilter(const FilterRow<T>& row, const Keep& keep) {
  Survivors<T> out;
  for (std::int64_t j = 0; j < row.size; ++j) {
    const T v = PlainValue(row, j);
    if (std::isnan(v)) out.nan = true;
    if (!keep(v, j)) continue;
    out.values.push_back(v);
    out.ids.push_back(row.first_id + static_cast<std::int32_t>(j));
  }
  return out;
}

template <class T, class Filter>
Survivors<T> Filtered(std::int64_t size, const Filter& filter) {
  Survivors<T> out;
  out.values.resize(static_cast<std::size_t>(size + kFilterSlack));
  out.ids.resize(static_cast<std::size_t>(size + kFilterSlack));
  const std::int64_t count = filter(out.values.data(), out.ids.data(), &out.nan);
  out.values.resize(static_cast<std::size_t>(count));
  out.ids.resize(static_cast<std::size_t>(count));
  return out;
}

template <class T>
void ExpectSame(const Survivors<T>& got, const Survivors<T>& expected, std::int64_t size) {
  EXPECT_EQ(got.values, expected.values) << size;
  EXPECT_EQ(got.ids, expected.ids) << size;
  EXPECT_EQ(got.nan, expected.nan) << size;
}

template <class T>
void EveryTail() {
  for (std::int64_t size = 0; size <= 140; ++size) {
    const auto z = testing::Normal<T>(1, size);
    const auto c = testing::Normal<T>(2, size);
    const auto lower = testing::Normal<T>(3, size);
    const FilterRow<T> row{z.data(), c.data(), size, T(0.37), 4000};
    const T inf = std::numeric_limits<T>::infinity();
    for (const T floor : {-inf, T(-1), T(0), T(0.5), T(2), T(9), inf}) {
      ExpectSame(
          Filtered<T>(size, [&](T* values, std::int32_t* ids,
                                bool* nan) { return FilterFrom(row, floor, values, ids, nan); }),
          PlainFilter(row, [&](T v, std::int64_t) { return v >= floor; }), size);
      ExpectSame(Filtered<T>(size,
                             [&](T* values, std::int32_t* ids, bool* nan) {
                               return FilterAbove<T>(row, nullptr, floor, values, ids, nan);
                             }),
                 PlainFilter(row, [&](T v, std::int64_t) { return v > floor; }), size);
    }
    ExpectSame(
        Filtered<T>(size,
                    [&](T* values, std::int32_t* ids, bool* nan) {
                      return FilterAbove(row, lower.data(), T(100), values, ids, nan);
                    }),
        PlainFilter(row,
                    [&](T v, std::int64_t j) { return v > lower[static_cast<std::size_t>(j)]; }),
        size);
    std::vector<T> all(static_cast<std::size_t>(size));
    PreActivations(row, all.data());
    for (std::int64_t j = 0; j < size; ++j)
      EXPECT_EQ(all[static_cast<std::size_t>(j)], PlainValue(row, j));
  }
}

TEST(Filter, FloatEqualsThePlainLoopForEveryTail) { EveryTail<float>(); }
TEST(Filter, DoubleEqualsThePlainLoopForEveryTail) { EveryTail<double>(); }

TEST(Filter, BoundsAndZeros) {
  const float inf = std::numeric_limits<float>::infinity();
  const std::vector<float> z = {-inf, -0.0F, 0.0F, 1.0F, inf};
  const std::vector<float> c(z.size(), -0.0F);
  const FilterRow<float> row{z.data(), c.data(), 5, 1.0F, 0};
  const auto from = [&](float floor) {
    return Filtered<float>(5, [&](float* values, std::int32_t* ids, bool* nan) {
      return FilterFrom(row, floor, values, ids, nan);
    });
  };
  EXPECT_EQ(from(-inf).ids, (std::vector<std::int32_t>{0, 1, 2, 3, 4}));
  EXPECT_EQ(from(0.0F).ids, (std::vector<std::int32_t>{1, 2, 3, 4}));
  EXPECT_EQ(from(-0.0F).ids, (std::vector<std::int32_t>{1, 2, 3, 4}));
  EXPECT_EQ(from(inf).ids, (std::vector<std::int32_t>{4}));
  const auto above = Filtered<float>(5, [&](float* values, std::int32_t* ids, bool* nan) {
    return FilterAbove<float>(row, nullptr, 0.0F, values, ids, nan);
  });
  EXPECT_EQ(above.ids, (std::vector<std::int32_t>{3, 4}));
  EXPECT_FALSE(above.nan);
}

TEST(Filter, NanIsNeverLost) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::int64_t size : {1, 7, 16, 64, 67, 128, 131}) {
    for (std::int64_t at = 0; at < size; ++at) {
      std::vector<float> z(static_cast<std::size_t>(size), -5.0F);
      const std::vector<float> c(z.size(), 0.0F);
      std::vector<float> lower(z.size(), 0.0F);
      std::vector<float> values(z.size() + kFilterSlack);
      std::vector<std::int32_t> ids(values.size());
      const FilterRow<float> row{z.data(), c.data(), size, 1.0F, 0};
      const auto flags = [&] {
        std::vector<bool> found(3);
        bool flag = false;
        EXPECT_EQ(FilterFrom(row, 0.0F, values.data(), ids.data(), &flag), 0);
        found[0] = std::exchange(flag, false);
        EXPECT_EQ(FilterAbove<float>(row, nullptr, 0.0F, values.data(), ids.data(), &flag), 0);
        found[1] = std::exchange(flag, false);
        EXPECT_EQ(FilterAbove(row, lower.data(), 0.0F, values.data(), ids.data(), &flag), 0);
        found[2] = flag;
        return found;
      };
      EXPECT_EQ(flags(), std::vector<bool>(3, false));
      z[static_cast<std::size_t>(at)] = nan;
      EXPECT_EQ(flags(), std::vector<bool>(3, true)) << at << " of " << size;
      z[static_cast<std::size_t>(at)] = -5;
      lower[static_cast<std::size_t>(at)] = nan;
      EXPECT_EQ(flags(), (std::vector<bool>{false, false, true})) << at << " of " << size;
    }
  }
}

/// Lists of `count` values with many ties, or all equal, or all different, with infinities.
template <class T>
std::vector<T> List(std::int64_t count, int kind) {
  auto values = kind == 2 ? testing::Normal<T>(5, count) : testing::Integers<T>(5, count, 2 * kind);
  if (kind == 3) {
    for (std::size_t i = 0; i < values.size(); i += 3)
      values[i] = (i % 2 == 0 ? 1 : -1) * std::numeric_limits<T>::infinity();
    for (std::size_t i = 1; i < values.size(); i += 3) values[i] = i % 2 == 0 ? T(0) : -T(0);
  }
  return values;
}

template <class T>
void CutsLikeASort() {
  for (int kind = 0; kind < 4; ++kind) {
    for (const std::int64_t count : {1, 2, 15, 16, 17, 64, 100, 333}) {
      const std::vector<T> list = List<T>(count, kind);
      std::vector<Scored<T>> sorted;
      for (std::int64_t i = 0; i < count; ++i) {
        sorted.push_back({list[static_cast<std::size_t>(i)], static_cast<std::int32_t>(i)});
      }
      std::sort(sorted.begin(), sorted.end(), Before<T>);
      for (const std::int64_t k : {std::int64_t{1}, count / 3 + 1, count / 2 + 1, count}) {
        if (k > count) continue;
        std::vector<T> values = list;
        std::vector<std::int32_t> ids(list.size());
        std::iota(ids.begin(), ids.end(), 0);
        values.resize(list.size() + kFilterSlack, T(1e9));
        ids.resize(values.size(), -7);
        T bound;
        const std::int64_t reach = BoundOfTop(values.data(), count, k, &bound);
        EXPECT_EQ(reach, std::count_if(list.begin(), list.end(), [&](T v) { return v >= bound; }));
        ASSERT_GE(reach, k);
        const T kth = sorted[static_cast<std::size_t>(k - 1)].value;
        if (reach > k) {
          EXPECT_EQ(bound, kth);
        }
        T floor;
        ASSERT_EQ(CutToTop(values.data(), ids.data(), count, k, &floor), k);
        EXPECT_TRUE(floor > bound || std::isinf(bound));
        EXPECT_LE(bound, kth);
        std::vector<Scored<T>> expected(sorted.begin(), sorted.begin() + k);
        std::sort(expected.begin(), expected.end(),
                  [](const auto& a, const auto& b) { return a.id < b.id; });
        for (std::int64_t j = 0; j < k; ++j) {
          ASSERT_EQ(ids[static_cast<std::size_t>(j)], expected[static_cast<std::size_t>(j)].id)
              << kind << " " << count << " " << k;
          ASSERT_EQ(values[static_cast<std::size_t>(j)],
                    expected[static_cast<std::size_t>(j)].value);
        }
        std::vector<T> by_value(static_cast<std::size_t>(k));
        std::vector<std::int32_t> by_value_ids(static_cast<std::size_t>(k));
        RankByValue(values.data(), ids.data(), k, by_value.data(), by_value_ids.data());
        for (std::int64_t j = 0; j < k; ++j) {
          ASSERT_EQ(by_value_ids[static_cast<std::size_t>(j)],
                    sorted[static_cast<std::size_t>(j)].id);
          ASSERT_EQ(by_value[static_cast<std::size_t>(j)],
                    sorted[static_cast<std::size_t>(j)].value);
        }
        std::vector<T> by_id(static_cast<std::size_t>(k));
        std::vector<std::int32_t> by_id_ids(static_cast<std::size_t>(k));
        RankById(by_value.data(), by_value_ids.data(), k, -3, by_id.data(), by_id_ids.data());
        for (std::int64_t j = 0; j < k; ++j) {
          ASSERT_EQ(by_id_ids[static_cast<std::size_t>(j)],
                    expected[static_cast<std::size_t>(j)].id + 3);
          ASSERT_EQ(by_id[static_cast<std::size_t>(j)],
                    expected[static_cast<std::size_t>(j)].value);
        }
      }
    }
  }
}

TEST(CutToTop, FloatEqualsASort) { CutsLikeASort<float>(); }
TEST(CutToTop, DoubleEqualsASort) { CutsLikeASort<double>(); }

// A cut that may keep more still keeps the first, in order, and its floor is right.
TEST(CutToTop, MayKeepALittleMore) {
  for (int kind = 0; kind < 4; ++kind) {
    const std::vector<float> list = List<float>(200, kind);
    for (const std::int64_t k : {1, 30, 150}) {
      for (const std::int64_t most : {k, k + 1, k + 20, std::int64_t{199}}) {
        std::vector<float> values = list, exact = list;
        std::vector<std::int32_t> ids(list.size()), exact_ids(list.size());
        std::iota(ids.begin(), ids.end(), 0);
        std::iota(exact_ids.begin(), exact_ids.end(), 0);
        for (auto* v : {&values, &exact}) v->resize(list.size() + kFilterSlack);
        for (auto* v : {&ids, &exact_ids}) v->resize(list.size() + kFilterSlack);
        float floor, exact_floor;
        const std::int64_t kept = CutToTop(values.data(), ids.data(), 200, k, most, &floor);
        ASSERT_GE(kept, k);
        ASSERT_LE(kept, most);
        EXPECT_TRUE(std::is_sorted(ids.begin(), ids.begin() + kept));
        CutToTop(exact.data(), exact_ids.data(), 200, k, &exact_floor);
        EXPECT_LE(floor, exact_floor);
        float unused;
        ASSERT_EQ(CutToTop(values.data(), ids.data(), kept, k, &unused), k);
        EXPECT_TRUE(std::equal(ids.begin(), ids.begin() + k, exact_ids.begin())) << kind << k;
      }
    }
  }
}

TEST(KeepFrom, KeepsTheOrderOfAllThreeArrays) {
  for (std::int64_t count = 0; count < 70; ++count) {
    std::vector<float> values = testing::Integers<float>(8, count, 3);
    std::vector<std::int32_t> ids, tokens, expected_ids;
    std::vector<float> expected;
    for (std::int32_t i = 0; i < count; ++i) {
      ids.push_back(i);
      tokens.push_back(100 - i);
      if (values[static_cast<std::size_t>(i)] < 1) continue;
      expected.push_back(values[static_cast<std::size_t>(i)]);
      expected_ids.push_back(i);
    }
    values.resize(values.size() + kFilterSlack, 9.0F);
    ids.resize(values.size());
    tokens.resize(values.size());
    const std::int64_t kept = KeepFrom(values.data(), ids.data(), tokens.data(), count, 1.0F);
    ASSERT_EQ(kept, static_cast<std::int64_t>(expected.size()));
    for (std::size_t j = 0; j < expected.size(); ++j) {
      EXPECT_EQ(values[j], expected[j]);
      EXPECT_EQ(ids[j], expected_ids[j]);
      EXPECT_EQ(tokens[j], 100 - expected_ids[j]);
    }
  }
}

}  // namespace
}  // namespace sae::kernels
