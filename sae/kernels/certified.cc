#include "sae/kernels/certified.h"

#include <algorithm>

#include "sae/kernels/certified_workspace.h"

namespace sae::kernels {

CertifiedWorkspace& BeginCertified(const EncodeInput<float>& input,
                                   EncodeWorkspace<float>* workspace, ThreadPool& pool) {
  const Screen& screen = *input.screen;
  SAE_CHECK_MSG(screen.w() == input.w && screen.x() == input.x &&
                    screen.latents() == input.latents && screen.tokens() == input.tokens &&
                    screen.d() == input.d && screen.workers() >= pool.size(),
                "the screen was prepared for %ld tokens x %ld, %ld latents, %d threads, or for "
                "other arrays",
                static_cast<long>(screen.tokens()), static_cast<long>(screen.d()),
                static_cast<long>(screen.latents()), screen.workers());
  if (workspace->certified == nullptr) {
    workspace->certified = std::make_shared<CertifiedWorkspace>();
  }
  CertifiedWorkspace& work = *workspace->certified;
  if (work.workers.size() < static_cast<std::size_t>(pool.size())) {
    work.workers.resize(static_cast<std::size_t>(pool.size()));
  }
  for (CertifiedWorkspace::Worker& worker : work.workers) {
    worker.did = {};
    worker.whole.clear();
    worker.size = 0;
    worker.nan = false;
    worker.z.resize(static_cast<std::size_t>(kScreenTokens * kScreenLatents));
  }
  work.none.assign(static_cast<std::size_t>(kScreenLatents + kFilterSlack), -0.0F);
  screen.Bounds(input.scale, input.c, &work.bounds);
  return work;
}

ScreenedRow ScreenedRowOf(const EncodeInput<float>& input, const CertifiedWorkspace& work,
                          const float* z, std::int64_t token, std::int64_t chunk) {
  const std::int64_t first = chunk * kScreenLatents;
  return {z + token % kScreenTokens * kScreenLatents,
          work.bounds.c.data() + first,
          work.bounds.q.data() + first,
          work.bounds.g.data() + first,
          std::min(kScreenLatents, input.latents - first),
          input.scale,
          work.bounds.slope[static_cast<std::size_t>(token)],
          static_cast<std::int32_t>(first)};
}

void CertifiedWorkspace::Worker::Reserve(std::int64_t more) {
  const auto room = static_cast<std::size_t>(size + more + kBoundsSlack);
  if (upper.size() >= room) return;
  upper.resize(2 * room);
  lower.resize(2 * room);
  ids.resize(2 * room);
  tokens.resize(2 * room);
}

void ReferenceChunk(const EncodeInput<float>& input, std::int64_t token, std::int64_t tokens,
                    std::int64_t chunk, float* z) {
  const std::int64_t first = chunk * kScreenLatents;
  const std::int64_t latents = std::min(kScreenLatents, input.latents - first);
  ReferenceTile(tokens, latents, input.d, input.x + token * input.d, input.w + first * input.d, z,
                kScreenLatents);
  for (std::int64_t r = 0; r < tokens; ++r)
    ReferenceZ(latents, input.scale, input.c + first, z + r * kScreenLatents);
}

void GatherLists(CertifiedWorkspace& work, Codes<float>* out, ThreadPool& pool) {
  const auto workers = static_cast<std::int64_t>(work.workers.size());
  std::int64_t* indptr = out->indptr.data();
  pool.ParallelFor(workers, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t at = begin; at < end; ++at) {
      const CertifiedWorkspace::Worker& worker = work.workers[static_cast<std::size_t>(at)];
      for (std::int64_t e = 0; e < worker.size; ++e)
        ++indptr[worker.tokens[static_cast<std::size_t>(e)] + 1];
    }
  });
  for (std::int64_t token = 0; token < out->tokens; ++token) indptr[token + 1] += indptr[token];
  out->ids.resize(static_cast<std::size_t>(out->nnz()));
  out->values.resize(static_cast<std::size_t>(out->nnz()));
  work.next.assign(out->indptr.begin(), out->indptr.end());
  pool.ParallelFor(workers, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t at = begin; at < end; ++at) {
      const CertifiedWorkspace::Worker& worker = work.workers[static_cast<std::size_t>(at)];
      for (std::size_t e = 0; e < static_cast<std::size_t>(worker.size); ++e) {
        const auto to =
            static_cast<std::size_t>(work.next[static_cast<std::size_t>(worker.tokens[e])]++);
        out->ids[to] = worker.ids[e];
        out->values[to] = worker.lower[e];
      }
    }
  });
}

CertifiedCounts LastCounts(const EncodeWorkspace<float>& workspace) {
  return workspace.certified == nullptr ? CertifiedCounts{} : workspace.certified->did;
}

}  // namespace sae::kernels
