// Certified BatchTopK candidates. Each worker keeps the entries whose upper ends reach its floor; a
// list of twice the wanted count is cut back by a floor that `count` of its lower ends reach. Where
// margins or ties leave too many, the list's values are computed and the cut is exact, ties by
// (token, latent). In the end one floor over all workers' lists, and ReferenceDot of what is left.
#include <algorithm>
#include <cmath>
#include <limits>

#include "sae/kernels/certified_workspace.h"

namespace sae::kernels {
namespace {

using Worker = CertifiedWorkspace::Worker;
constexpr float kInfinity = std::numeric_limits<float>::infinity();

class LargestSelector {
 public:
  LargestSelector(const EncodeInput<float>& input, std::int64_t count, float least,
                  CertifiedWorkspace& work)
      : input_(input), count_(count), least_(least), work_(work) {}

  void Begin() const {
    for (Worker& worker : work_.workers) worker.floors.assign(1, least_);
  }

  void Block(std::int64_t block, int index) const {
    Worker& worker = work_.workers[static_cast<std::size_t>(index)];
    const std::int64_t token = block * kScreenTokens;
    const std::int64_t tokens = std::min(kScreenTokens, input_.tokens - token);
    for (std::int64_t chunk = 0; chunk < input_.screen->chunks(); ++chunk) {
      input_.screen->Product(block, chunk, index, worker.z.data());
      for (std::int64_t r = 0; r < tokens; ++r) {
        Take(token + r, chunk, worker);
        if (worker.size >= 2 * count_) CutBack(worker);
      }
    }
  }

  /// One floor for all workers.
  void Finish() const {
    AlignedVector<float>& lower = work_.lower;
    lower.clear();
    for (const Worker& worker : work_.workers)
      lower.insert(lower.end(), worker.lower.begin(), worker.lower.begin() + worker.size);
    const auto size = static_cast<std::int64_t>(lower.size());
    if (size <= count_) return;
    const float floor = ReachedBy(lower.data(), size, count_, 0, -kInfinity);
    for (Worker& worker : work_.workers) worker.size = KeepFrom(worker.List(), worker.size, floor);
  }

 private:
  void Take(std::int64_t token, std::int64_t chunk, Worker& worker) const {
    const ScreenedRow row = ScreenedRowOf(input_, work_, worker.z.data(), token, chunk);
    worker.Reserve(row.size);
    const std::int64_t at = worker.size;
    std::int64_t hits = 0;
    if (row.slope < kInfinity) {
      hits = SiftFrom(row, worker.floors[0],
                      {worker.upper.data() + at, worker.lower.data() + at, worker.ids.data() + at});
    } else {
      float* z = worker.z.data() + token % kScreenTokens * kScreenLatents;
      ReferenceChunk(input_, token, 1, chunk, z);
      hits = FilterFrom(FilterRow<float>{z, work_.none.data(), row.size, 1.0F, row.first_id},
                        worker.floors[0], worker.lower.data() + at, worker.ids.data() + at,
                        &worker.nan);
      std::copy_n(worker.lower.begin() + at, hits, worker.upper.begin() + at);
      ++worker.did.whole;
    }
    std::fill_n(worker.tokens.begin() + at, hits, static_cast<std::int32_t>(token));
    worker.size += hits;
  }

  void CutBack(Worker& worker) const {
    const float floor =
        ReachedBy(worker.lower.data(), worker.size, count_, count_ / 16, -kInfinity);
    worker.floors[0] = std::max(worker.floors[0], floor);
    worker.size = KeepFrom(worker.List(), worker.size, worker.floors[0]);
    if (worker.size >= 3 * count_ / 2 + 1) CutExactly(worker);
  }

  void CutExactly(Worker& worker) const {
    worker.did.candidates += worker.size;
    for (std::int64_t e = 0; e < worker.size; ++e) {
      const auto at = static_cast<std::size_t>(e);
      if (worker.lower[at] == worker.upper[at]) continue;
      const float z = ReferenceZ(input_.scale,
                                 ReferenceDot(input_.d, input_.w + worker.ids[at] * input_.d,
                                              input_.x + worker.tokens[at] * input_.d),
                                 input_.c[worker.ids[at]]);
      worker.upper[at] = z;
      worker.lower[at] = z;
    }
    worker.size = KeepFrom(worker.List(), worker.size, worker.floors[0]);
    if (worker.size <= count_) return;
    const float bound = ReachedBy(worker.lower.data(), worker.size, count_, 0, -kInfinity);
    worker.floors[0] = std::max(worker.floors[0], bound);
    worker.size = KeepFrom(worker.List(), worker.size, bound);
    if (worker.size > count_) DropTies(worker, bound);
  }

  static std::uint64_t Place(const Worker& worker, std::int64_t e) {
    const auto at = static_cast<std::size_t>(e);
    return std::uint64_t{static_cast<std::uint32_t>(worker.tokens[at])} << 32 |
           static_cast<std::uint32_t>(worker.ids[at]);
  }

  /// Of the entries equal to `bound`, the least, keeps the first so that `count_` are left.
  void DropTies(Worker& worker, float bound) const {
    worker.places.clear();
    for (std::int64_t e = 0; e < worker.size; ++e) {
      if (worker.lower[static_cast<std::size_t>(e)] == bound)
        worker.places.push_back(Place(worker, e));
    }
    const std::int64_t surplus = worker.size - count_;
    const auto last = worker.places.end() - (surplus + 1);
    std::nth_element(worker.places.begin(), last, worker.places.end());
    std::size_t to = 0;
    for (std::int64_t e = 0; e < worker.size; ++e) {
      const auto from = static_cast<std::size_t>(e);
      if (worker.lower[from] == bound && Place(worker, e) > *last) continue;
      worker.upper[to] = worker.upper[from];
      worker.lower[to] = worker.lower[from];
      worker.ids[to] = worker.ids[from];
      worker.tokens[to++] = worker.tokens[from];
    }
    worker.size = static_cast<std::int64_t>(to);
  }

  const EncodeInput<float>& input_;
  const std::int64_t count_;
  const float least_;  ///< the smallest value wanted
  CertifiedWorkspace& work_;
};

/// Values of all candidates, in place.
void Rescore(const EncodeInput<float>& input, Codes<float>* codes, ThreadPool& pool) {
  pool.ParallelFor(codes->tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      const std::int64_t first = codes->indptr[static_cast<std::size_t>(b)];
      const std::int64_t size = codes->indptr[static_cast<std::size_t>(b) + 1] - first;
      const std::int32_t* ids = codes->ids.data() + first;
      float* values = codes->values.data() + first;
      ReferenceDots(input.d, input.x + b * input.d, input.w, ids, size, values);
      for (std::int64_t j = 0; j < size; ++j)
        values[j] = ReferenceZ(input.scale, values[j], input.c[ids[j]]);
    }
  });
}

/// Drops values below `least`.
void KeepWanted(float least, Codes<float>* codes) {
  std::int64_t kept = 0;
  std::int64_t e = 0;
  for (std::int64_t b = 0; b < codes->tokens; ++b) {
    const std::int64_t end = codes->indptr[static_cast<std::size_t>(b) + 1];
    for (; e < end; ++e) {
      const auto at = static_cast<std::size_t>(e);
      codes->ids[static_cast<std::size_t>(kept)] = codes->ids[at];
      codes->values[static_cast<std::size_t>(kept)] = codes->values[at];
      kept += codes->values[at] >= least ? 1 : 0;
    }
    codes->indptr[static_cast<std::size_t>(b) + 1] = kept;
  }
  codes->ids.resize(static_cast<std::size_t>(kept));
  codes->values.resize(static_cast<std::size_t>(kept));
}

}  // namespace

bool CertifiedLargest(const EncodeInput<float>& input, std::int64_t count, float floor,
                      EncodeWorkspace<float>* workspace, Codes<float>* out, ThreadPool& pool) {
  CertifiedWorkspace& work = BeginCertified(input, workspace, pool);
  const float least = std::nextafter(std::max(floor, 0.0F), kInfinity);
  const LargestSelector selector(input, count, least, work);
  selector.Begin();
  const auto blocks = [&](std::int64_t begin, std::int64_t end, int worker) {
    for (std::int64_t block = begin; block < end; ++block) selector.Block(block, worker);
  };
  RunBlocks(input.meeting, {input.screen->blocks(), kScreenGroup, blocks}, pool);
  selector.Finish();
  GatherLists(work, out, pool);
  work.did = {};
  work.did.candidates = out->nnz();
  Rescore(input, out, pool);
  KeepWanted(least, out);
  bool ok = true;
  for (const Worker& worker : work.workers) {
    work.did.candidates += worker.did.candidates;
    work.did.whole += worker.did.whole;
    ok = ok && !worker.nan;
  }
  return ok;
}

}  // namespace sae::kernels
