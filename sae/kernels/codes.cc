#include "sae/kernels/codes.h"

#include <algorithm>

#include "sae/base/check.h"

namespace sae::kernels {
namespace {

/// How many of a token's winners have f > 0: they are a prefix, for values descend.
template <class T>
std::int64_t Positive(const TopK<T>& selection, const std::int32_t* counts, std::int64_t token) {
  const std::int64_t limit = counts == nullptr ? selection.width : counts[token];
  const T* values = selection.values.data() + token * selection.width;
  std::int64_t count = 0;
  while (count < limit && values[count] > T(0)) ++count;
  return count;
}

}  // namespace

template <class T>
void Codes<T>::Clear(std::int64_t token_count, std::int64_t latent_count) {
  tokens = token_count;
  latents = latent_count;
  indptr.assign(static_cast<std::size_t>(token_count) + 1, 0);
  ids.clear();
  values.clear();
}

template <class T>
void BuildLatentIndex(const Codes<T>& codes, LatentIndex* out) {
  const std::int64_t nnz = codes.nnz();
  out->latents = codes.latents;
  out->indptr.assign(static_cast<std::size_t>(codes.latents) + 1, 0);
  out->tokens.resize(static_cast<std::size_t>(nnz));
  out->entries.resize(static_cast<std::size_t>(nnz));
  std::int64_t* at = out->indptr.data();
  // at[i + 1] counts latent i; the prefix sum makes at[i] the first place of latent i; filling
  // moves it to the end of latent i, which is the first place of i + 1: shift back by one.
  for (std::int64_t e = 0; e < nnz; ++e) ++at[codes.ids[static_cast<std::size_t>(e)] + 1];
  for (std::int64_t i = 0; i < codes.latents; ++i) at[i + 1] += at[i];
  for (std::int64_t token = 0; token < codes.tokens; ++token) {
    const auto row = static_cast<std::size_t>(token);
    for (std::int64_t e = codes.indptr[row]; e < codes.indptr[row + 1]; ++e) {
      const auto place = static_cast<std::size_t>(at[codes.ids[static_cast<std::size_t>(e)]]++);
      out->tokens[place] = static_cast<std::int32_t>(token);
      out->entries[place] = e;
    }
  }
  for (std::int64_t i = codes.latents; i > 0; --i) at[i] = at[i - 1];
  if (codes.latents > 0) at[0] = 0;
}

template <class T>
void CodesFromTopK(const TopK<T>& selection, const std::int32_t* counts, std::int64_t first_latent,
                   std::int64_t latents, Codes<T>* out, ThreadPool& pool) {
  out->Clear(selection.tokens, latents);
  for (std::int64_t token = 0; token < selection.tokens; ++token) {
    const auto row = static_cast<std::size_t>(token);
    out->indptr[row + 1] = out->indptr[row] + Positive(selection, counts, token);
  }
  out->ids.resize(static_cast<std::size_t>(out->nnz()));
  out->values.resize(static_cast<std::size_t>(out->nnz()));
  pool.ParallelFor(selection.tokens, [&](std::int64_t begin, std::int64_t end, int) {
    std::vector<Scored<T>> row(static_cast<std::size_t>(selection.width));
    for (std::int64_t token = begin; token < end; ++token) {
      const std::int64_t to = out->indptr[static_cast<std::size_t>(token)];
      const std::int64_t count = out->indptr[static_cast<std::size_t>(token) + 1] - to;
      const std::int64_t from = token * selection.width;
      for (std::int64_t j = 0; j < count; ++j) {
        row[static_cast<std::size_t>(j)] = {selection.values[static_cast<std::size_t>(from + j)],
                                            selection.ids[static_cast<std::size_t>(from + j)]};
      }
      std::sort(row.begin(), row.begin() + count,
                [](const Scored<T>& a, const Scored<T>& b) { return a.id < b.id; });
      for (std::int64_t j = 0; j < count; ++j) {
        const Scored<T>& entry = row[static_cast<std::size_t>(j)];
        const std::int64_t id = entry.id - first_latent;
        SAE_CHECK_MSG(id >= 0 && id < latents, "latent %ld of %ld", static_cast<long>(id),
                      static_cast<long>(latents));
        out->ids[static_cast<std::size_t>(to + j)] = static_cast<std::int32_t>(id);
        out->values[static_cast<std::size_t>(to + j)] = entry.value;
      }
    }
  });
}

template struct Codes<float>;
template struct Codes<double>;
template void BuildLatentIndex(const Codes<float>&, LatentIndex*);
template void BuildLatentIndex(const Codes<double>&, LatentIndex*);
template void CodesFromTopK(const TopK<float>&, const std::int32_t*, std::int64_t, std::int64_t,
                            Codes<float>*, ThreadPool&);
template void CodesFromTopK(const TopK<double>&, const std::int32_t*, std::int64_t, std::int64_t,
                            Codes<double>*, ThreadPool&);

}  // namespace sae::kernels
