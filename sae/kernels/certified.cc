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
    worker.z.resize(static_cast<std::size_t>(kScreenTokens * kScreenLatents));
  }
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

CertifiedCounts LastCounts(const EncodeWorkspace<float>& workspace) {
  return workspace.certified == nullptr ? CertifiedCounts{} : workspace.certified->did;
}

}  // namespace sae::kernels
