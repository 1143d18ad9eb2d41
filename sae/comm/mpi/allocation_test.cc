// Under mpirun. Operations allocate nothing once they have run: MPI's and the in-process ones, and
// the bookkeeping of purposes. Replaces operator new, so it is a program of its own.
#include <array>
#include <cstdint>
#include <cstdlib>
#include <new>
#include <vector>

#include <gtest/gtest.h>
#include <mpi.h>

#include "sae/comm/communicator.h"

namespace {
thread_local std::int64_t allocations = 0;
}  // namespace

// Not inlined: gcc with the sanitizers' flags would see free() meet a pointer of new, and warn.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* p = std::malloc(size == 0 ? 1 : size); p != nullptr) return p;
  throw std::bad_alloc();
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace sae::comm {
namespace {

/// Buffers of one rank, made once.
struct Buffers {
  explicit Buffers(int ranks)
      : one(3000),
        all(one.size() * static_cast<std::size_t>(ranks)),
        other(all.size()),
        counts(static_cast<std::size_t>(ranks), 3000),
        few(static_cast<std::size_t>(ranks), 1000) {
    few[0] = 0;
  }
  std::vector<float> one, all, other;
  std::vector<std::int64_t> counts, few;
};

absl::Status Step(Communicator& c, Buffers& b) {
  c.SetPurpose("select.first");
  SAE_RETURN_IF_ERROR(c.AllGather(std::span<const float>(b.one), std::span<float>(b.all)));
  SAE_RETURN_IF_ERROR(c.AllGatherV(b.one.data(), b.all.data(), b.few, DType::kF32));
  c.SetPurpose("gradient");
  SAE_RETURN_IF_ERROR(c.AllReduceSum(std::span<float>(b.all)));
  SAE_RETURN_IF_ERROR(c.AllReduceSum(std::span<float>(b.one.data(), 8)));
  SAE_RETURN_IF_ERROR(
      c.ReduceScatter(b.all.data(), b.one.data(), 3000, DType::kF32, ReduceOp::kMax));
  SAE_RETURN_IF_ERROR(c.AllToAll(b.all.data(), b.other.data(), 3000, DType::kF32));
  SAE_RETURN_IF_ERROR(c.AllToAllV(b.all.data(), b.counts, b.other.data(), b.counts, DType::kF32));
  SAE_RETURN_IF_ERROR(c.Broadcast(b.one.data(), 3000, DType::kF32, 1));
  SAE_RETURN_IF_ERROR(c.Check());
  return c.Barrier();
}

absl::Status ExpectNothingNew(Communicator& c) {
  Buffers buffers(c.size());
  for (int step = 0; step < 3; ++step) SAE_RETURN_IF_ERROR(Step(c, buffers));
  const std::int64_t before = allocations;
  for (int step = 0; step < 20; ++step) SAE_RETURN_IF_ERROR(Step(c, buffers));
  const std::int64_t made = allocations - before;
  return made == 0 ? absl::OkStatus() : absl::InternalError(absl::StrCat(made, " allocations"));
}

TEST(Allocations, NoneInProcess) { EXPECT_EQ(RunInProcess(3, ExpectNothingNew).ToString(), "OK"); }

TEST(Allocations, NoneOverMpi) {
  const auto world = CreateMpi(absl::Seconds(60));
  ASSERT_TRUE(world.ok());
  EXPECT_EQ(ExpectNothingNew(**world).ToString(), "OK");
}

}  // namespace
}  // namespace sae::comm

int main(int argc, char** argv) {
  int provided = 0;
  MPI_Init_thread(&argc, &argv, MPI_THREAD_SERIALIZED, &provided);
  ::testing::InitGoogleTest(&argc, argv);
  int failed = RUN_ALL_TESTS();
  MPI_Allreduce(MPI_IN_PLACE, &failed, 1, MPI_INT, MPI_MAX, MPI_COMM_WORLD);
  MPI_Finalize();
  return failed;
}
