#include "sae/base/parallel.h"

#include <gtest/gtest.h>

#include <vector>

namespace sae {
namespace {

TEST(ThreadPool, EachIndexOnceForAnyThreadCount) {
  for (const int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.size(), threads);
    for (const std::int64_t count : {0, 1, 2, 7, 1000}) {
      std::vector<int> seen(static_cast<std::size_t>(count), 0);
      for (int round = 0; round < 20; ++round) {
        pool.ParallelFor(count, [&](std::int64_t begin, std::int64_t end, int worker) {
          EXPECT_GE(worker, 0);
          EXPECT_LT(worker, threads);
          for (std::int64_t i = begin; i < end; ++i) ++seen[static_cast<std::size_t>(i)];
        });
      }
      for (const int times : seen) ASSERT_EQ(times, 20);
    }
  }
}

}  // namespace
}  // namespace sae
