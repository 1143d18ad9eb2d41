#include "sae/eval/assignment.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/base/random.h"

namespace sae::eval {
namespace {
using ::testing::ElementsAre;

/// By trying all: the greatest total, and of those with it the lowest partners of the smaller side.
Assignment BruteForce(const std::vector<double>& w, std::int64_t rows, std::int64_t cols) {
  const bool wide = rows <= cols;
  const std::int64_t small = std::min(rows, cols), large = std::max(rows, cols);
  std::vector<std::int64_t> order(static_cast<std::size_t>(large));
  std::iota(order.begin(), order.end(), 0);
  std::vector<std::int64_t> best;
  double total = -INFINITY;
  do {  // lexicographic order: the first of equals is the lowest
    double sum = 0;
    for (std::int64_t i = 0; i < small; ++i) {
      const std::int64_t j = order[static_cast<std::size_t>(i)];
      sum += w[static_cast<std::size_t>(wide ? i * cols + j : j * cols + i)];
    }
    if (sum > total) {
      total = sum;
      best = order;
    }
  } while (std::next_permutation(order.begin(), order.end()));
  Assignment out;
  out.total = total;
  out.column.assign(static_cast<std::size_t>(rows), -1);
  for (std::int64_t i = 0; i < small; ++i) {
    const std::int64_t j = best[static_cast<std::size_t>(i)];
    out.column[static_cast<std::size_t>(wide ? i : j)] = wide ? j : i;
  }
  return out;
}

// Small whole weights tie often: totals are exact and the lowest partners are asked for.
// Property 80.
TEST(AssignMax, IsTheBestOfAllAssignmentsAndTheLowestOnTies) {
  Random random(1);
  for (std::int64_t rows = 1; rows <= 7; ++rows) {
    for (std::int64_t cols = 1; cols <= 7; ++cols) {
      for (const std::uint64_t values : {1U, 2U, 3U, 1000U}) {
        for (int repeat = 0; repeat < 6; ++repeat) {
          std::vector<double> w(static_cast<std::size_t>(rows * cols));
          for (double& v : w) v = static_cast<double>(random.Below(values)) - 1;
          const Assignment want = BruteForce(w, rows, cols);
          const Assignment got = AssignMax(w, rows, cols).value();
          EXPECT_EQ(got.total, want.total) << rows << " x " << cols;
          EXPECT_EQ(got.column, want.column) << rows << " x " << cols << " of " << values;
        }
      }
    }
  }
}

// Property 80.
TEST(AssignMax, IsTheBestOfAllEightByEight) {
  Random random(2);
  for (int repeat = 0; repeat < 10; ++repeat) {
    std::vector<double> w(64);
    for (double& v : w) v = random.Normal();
    const Assignment want = BruteForce(w, 8, 8);
    const Assignment got = AssignMax(w, 8, 8).value();
    EXPECT_NEAR(got.total, want.total, 1e-12);
    EXPECT_EQ(got.column, want.column);
  }
}

TEST(AssignMax, ManyRowsFindTheirPermutationAndEqualOnesKeepTheirOrder) {
  const std::size_t n = 300;
  Random random(3);
  std::vector<std::size_t> to(n);
  std::iota(to.begin(), to.end(), 0U);
  for (std::size_t i = n - 1; i > 0; --i) std::swap(to[i], to[random.Below(i + 1)]);
  std::vector<double> w(n * n);
  for (std::size_t i = 0; i < n; ++i) {
    for (std::size_t j = 0; j < n; ++j) w[i * n + j] = to[i] == j ? 1 : 0.9 * random.Uniform();
  }
  const Assignment got = AssignMax(w, n, n).value();
  for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(got.column[i], static_cast<std::int64_t>(to[i]));
  EXPECT_NEAR(got.total, n, 1e-9);
  std::fill(w.begin(), w.end(), 0.1);
  const Assignment equal = AssignMax(w, n, n).value();
  for (std::size_t i = 0; i < n; ++i) EXPECT_EQ(equal.column[i], static_cast<std::int64_t>(i));
}

TEST(AssignMax, EmptyAndBadInputs) {
  EXPECT_EQ(AssignMax({}, 0, 3)->total, 0);
  EXPECT_THAT(AssignMax({}, 2, 0)->column, ElementsAre(-1, -1));
  EXPECT_FALSE(AssignMax(std::vector<double>{1, 2}, 1, 3).ok());
  EXPECT_FALSE(AssignMax(std::vector<double>{1, NAN}, 1, 2).ok());
}

}  // namespace
}  // namespace sae::eval
