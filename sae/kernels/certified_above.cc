// Certified selection of everything above a bound. Candidates of a token are computed by
// ReferenceDot while its row and the chunk's are in cache. Where the last chunk left many, the next
// is computed whole by blocked reference products, which are cheaper a piece; as every value comes
// from the reference either way, that choice changes no bit.
#include <algorithm>
#include <cmath>
#include <limits>

#include "sae/kernels/certified_workspace.h"

namespace sae::kernels {
namespace {

using Worker = CertifiedWorkspace::Worker;

class AboveSelector {
 public:
  AboveSelector(const EncodeInput<float>& input, const float* lower, float floor,
                CertifiedWorkspace& work)
      : input_(input), lower_(lower), floor_(floor), work_(work) {}

  void Block(std::int64_t block, int index) const {
    Worker& worker = work_.workers[static_cast<std::size_t>(index)];
    const std::int64_t token = block * kScreenTokens;
    const std::int64_t tokens = std::min(kScreenTokens, input_.tokens - token);
    worker.values.resize(static_cast<std::size_t>(kScreenLatents + kBoundsSlack));
    bool dense = false;
    for (std::int64_t chunk = 0; chunk < input_.screen->chunks(); ++chunk) {
      if (dense) {
        ReferenceChunk(input_, token, tokens, chunk, worker.z.data());
      } else {
        input_.screen->Product(block, chunk, index, worker.z.data());
      }
      std::int64_t candidates = 0;
      for (std::int64_t r = 0; r < tokens; ++r) {
        candidates += dense ? TakeExact(token + r, chunk, worker) : Take(token + r, chunk, worker);
      }
      const std::int64_t pairs =
          tokens * std::min(kScreenLatents, input_.latents - chunk * kScreenLatents);
      dense = candidates > pairs / (dense ? 8 : 6);
    }
  }

 private:
  const float* Lower(std::int64_t chunk) const {
    return lower_ == nullptr ? nullptr : lower_ + chunk * kScreenLatents;
  }

  /// The row's entry in z holds pre-activations by the reference.
  std::int64_t TakeExact(std::int64_t token, std::int64_t chunk, Worker& worker) const {
    const ScreenedRow row = ScreenedRowOf(input_, work_, worker.z.data(), token, chunk);
    worker.Reserve(row.size);
    const std::int64_t hits = FilterAbove(
        FilterRow<float>{row.z, work_.none.data(), row.size, 1.0F, row.first_id}, Lower(chunk),
        floor_, worker.lower.data() + worker.size, worker.ids.data() + worker.size, &worker.nan);
    std::fill_n(worker.tokens.begin() + worker.size, hits, static_cast<std::int32_t>(token));
    worker.size += hits;
    ++worker.did.whole;
    return hits;
  }

  std::int64_t Take(std::int64_t token, std::int64_t chunk, Worker& worker) const {
    const ScreenedRow row = ScreenedRowOf(input_, work_, worker.z.data(), token, chunk);
    if (!(row.slope < std::numeric_limits<float>::infinity())) {
      ReferenceChunk(input_, token, 1, chunk,
                     worker.z.data() + token % kScreenTokens * kScreenLatents);
      return TakeExact(token, chunk, worker);
    }
    worker.Reserve(row.size);
    const Bounded list{worker.upper.data() + worker.size, worker.lower.data() + worker.size,
                       worker.ids.data() + worker.size};
    const std::int64_t candidates =
        lower_ == nullptr ? SiftFrom(row, floor_, list) : SiftAbove(row, Lower(chunk), list);
    worker.did.candidates += candidates;
    float* values = worker.values.data();
    ReferenceDots(input_.d, input_.x + token * input_.d, input_.w, list.ids, candidates, values);
    std::int64_t kept = 0;
    for (std::int64_t j = 0; j < candidates; ++j) {
      const std::int32_t id = list.ids[j];
      const float z = ReferenceZ(input_.scale, values[j], input_.c[id]);
      list.lower[kept] = z;
      list.ids[kept] = id;
      kept += z > (lower_ == nullptr ? floor_ : lower_[id]) ? 1 : 0;
    }
    std::fill_n(worker.tokens.begin() + worker.size, kept, static_cast<std::int32_t>(token));
    worker.size += kept;
    return candidates;
  }

  const EncodeInput<float>& input_;
  const float* const lower_;
  const float floor_;
  CertifiedWorkspace& work_;
};

}  // namespace

bool CertifiedAbove(const EncodeInput<float>& input, const float* lower, float floor,
                    EncodeWorkspace<float>* workspace, Codes<float>* out, ThreadPool& pool) {
  CertifiedWorkspace& work = BeginCertified(input, workspace, pool);
  const AboveSelector selector(input, lower, floor, work);
  const auto blocks = [&](std::int64_t begin, std::int64_t end, int worker) {
    for (std::int64_t block = begin; block < end; ++block) selector.Block(block, worker);
  };
  RunBlocks(input.meeting, {input.screen->blocks(), kScreenGroup, blocks}, pool);
  GatherLists(work, out, pool);
  work.did = {};
  bool ok = lower == nullptr ? !std::isnan(floor) : Comparable(lower, input.latents);
  for (const Worker& worker : work.workers) {
    work.did.candidates += worker.did.candidates;
    work.did.whole += worker.did.whole;
    ok = ok && !worker.nan;
  }
  return ok;
}

}  // namespace sae::kernels
