#include "sae/kernels/codes.h"

#include <algorithm>
#include <utility>

#include "sae/base/check.h"
#include "sae/kernels/filter.h"

namespace sae::kernels {
namespace {

/// How many of a token's winners have f > 0. By value they are a prefix.
template <class T>
std::int64_t Positive(const TopK<T>& selection, const std::int32_t* counts, std::int64_t token) {
  const std::int64_t limit = counts == nullptr ? selection.width : counts[token];
  const T* values = selection.values.data() + token * selection.width;
  std::int64_t count = 0;
  for (std::int64_t j = 0; j < limit; ++j) count += values[j] > T(0) ? 1 : 0;
  return count;
}

template <class T>
void SwapEntries(T* values, std::int32_t* ids, std::int64_t a, std::int64_t b) {
  std::swap(values[a], values[b]);
  std::swap(ids[a], ids[b]);
}

/// Heap sort of two arrays by id, in place: for rows too long for RankById.
template <class T>
void SortById(T* values, std::int32_t* ids, std::int64_t count) {
  const auto sink = [&](std::int64_t i, std::int64_t end) {
    for (std::int64_t child; (child = 2 * i + 1) < end; i = child) {
      if (child + 1 < end && ids[child + 1] > ids[child]) ++child;
      if (ids[i] >= ids[child]) return;
      SwapEntries(values, ids, i, child);
    }
  };
  for (std::int64_t i = count / 2; i-- > 0;) sink(i, count);
  for (std::int64_t end = count - 1; end > 0; --end) {
    SwapEntries(values, ids, 0, end);
    sink(0, end);
  }
}

/// `count` positive winners of a token, by ascending local id.
template <class T>
void FillToken(const TopK<T>& selection, std::int64_t token, std::int64_t count,
               std::int32_t first_latent, T* values, std::int32_t* ids) {
  const T* from_values = selection.values.data() + token * selection.width;
  const std::int32_t* from_ids = selection.ids.data() + token * selection.width;
  if (selection.order == TopKOrder::kById) {
    std::int64_t to = 0;
    for (std::int64_t j = 0; j < selection.width; ++j) {
      if (!(from_values[j] > T(0))) continue;
      values[to] = from_values[j];
      ids[to++] = from_ids[j] - first_latent;
    }
  } else if (count <= kRankSort) {
    RankById(from_values, from_ids, count, first_latent, values, ids);
  } else {
    std::copy(from_values, from_values + count, values);
    for (std::int64_t j = 0; j < count; ++j) ids[j] = from_ids[j] - first_latent;
    SortById(values, ids, count);
  }
}

/// at[w * latents + i] becomes the first place of worker w's entries of latent i.
void Offsets(std::int64_t latents, int workers, std::int64_t* at, std::int64_t* indptr) {
  std::int64_t place = 0;
  for (std::int64_t i = 0; i < latents; ++i) {
    indptr[i] = place;
    for (int w = 0; w < workers; ++w) {
      const std::int64_t count = at[w * latents + i];
      at[w * latents + i] = place;
      place += count;
    }
  }
  indptr[latents] = place;
}

template <class T>
void CountLatents(const Codes<T>& codes, std::int64_t begin, std::int64_t end, std::int64_t* at) {
  std::fill_n(at, codes.latents, 0);
  const std::int64_t* indptr = codes.indptr.data();
  for (std::int64_t e = indptr[begin]; e < indptr[end]; ++e)
    ++at[codes.ids[static_cast<std::size_t>(e)]];
}

template <class T>
void FillIndex(const Codes<T>& codes, std::int64_t begin, std::int64_t end, std::int64_t* at,
               LatentIndex* out) {
  for (std::int64_t token = begin; token < end; ++token) {
    const auto row = static_cast<std::size_t>(token);
    for (std::int64_t e = codes.indptr[row]; e < codes.indptr[row + 1]; ++e) {
      const auto place = static_cast<std::size_t>(at[codes.ids[static_cast<std::size_t>(e)]]++);
      out->tokens[place] = static_cast<std::int32_t>(token);
      out->entries[place] = e;
    }
  }
}

template <class T>
void Size(const Codes<T>& codes, int workers, LatentIndex* out) {
  out->latents = codes.latents;
  out->indptr.resize(static_cast<std::size_t>(codes.latents) + 1);
  out->tokens.resize(static_cast<std::size_t>(codes.nnz()));
  out->entries.resize(static_cast<std::size_t>(codes.nnz()));
  const std::size_t scratch = static_cast<std::size_t>(workers * codes.latents);
  if (out->scratch.size() < scratch) out->scratch.resize(scratch);
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
void BuildLatentIndex(const Codes<T>& codes, LatentIndex* out, ThreadPool& pool) {
  // Each worker counts over all latents: with fewer entries than latents that is more work than it shares.
  const int workers = codes.nnz() < codes.latents ? 1 : pool.size();
  Size(codes, workers, out);
  std::int64_t* at = out->scratch.data();
  // Workers own consecutive tokens, and Offsets puts their entries of a latent in that order.
  const auto begin_of = [&](std::int64_t w) { return codes.tokens * w / workers; };
  pool.ParallelFor(workers, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t w = begin; w < end; ++w)
      CountLatents(codes, begin_of(w), begin_of(w + 1), at + w * codes.latents);
  });
  Offsets(codes.latents, workers, at, out->indptr.data());
  pool.ParallelFor(workers, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t w = begin; w < end; ++w)
      FillIndex(codes, begin_of(w), begin_of(w + 1), at + w * codes.latents, out);
  });
}

template <class T>
void BuildLatentIndex(const Codes<T>& codes, LatentIndex* out) {
  Size(codes, 1, out);
  CountLatents(codes, 0, codes.tokens, out->scratch.data());
  Offsets(codes.latents, 1, out->scratch.data(), out->indptr.data());
  FillIndex(codes, 0, codes.tokens, out->scratch.data(), out);
}

template <class T>
void CodesFromTopK(const TopK<T>& selection, const std::int32_t* counts, std::int64_t first_latent,
                   std::int64_t latents, Codes<T>* out, ThreadPool& pool) {
  SAE_CHECK_MSG(counts == nullptr || selection.order == TopKOrder::kByValue,
                "a prefix of winners ordered by id: %ld tokens",
                static_cast<long>(selection.tokens));
  out->tokens = selection.tokens;
  out->latents = latents;
  out->indptr.resize(static_cast<std::size_t>(selection.tokens) + 1);
  std::int64_t* indptr = out->indptr.data();
  indptr[0] = 0;
  pool.ParallelFor(selection.tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t token = begin; token < end; ++token)
      indptr[token + 1] = Positive(selection, counts, token);
  });
  for (std::int64_t token = 0; token < selection.tokens; ++token)
    indptr[token + 1] += indptr[token];
  out->ids.resize(static_cast<std::size_t>(out->nnz()));
  out->values.resize(static_cast<std::size_t>(out->nnz()));
  pool.ParallelFor(selection.tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t token = begin; token < end; ++token) {
      const std::int64_t count = indptr[token + 1] - indptr[token];
      if (count == 0) continue;
      std::int32_t* ids = out->ids.data() + indptr[token];
      FillToken(selection, token, count, static_cast<std::int32_t>(first_latent),
                out->values.data() + indptr[token], ids);
      SAE_CHECK_MSG(ids[0] >= 0 && ids[count - 1] < latents, "latents %d to %d of %ld", ids[0],
                    ids[count - 1], static_cast<long>(latents));
    }
  });
}

template struct Codes<float>;
template struct Codes<double>;
template void BuildLatentIndex(const Codes<float>&, LatentIndex*, ThreadPool&);
template void BuildLatentIndex(const Codes<double>&, LatentIndex*, ThreadPool&);
template void BuildLatentIndex(const Codes<float>&, LatentIndex*);
template void BuildLatentIndex(const Codes<double>&, LatentIndex*);
template void CodesFromTopK(const TopK<float>&, const std::int32_t*, std::int64_t, std::int64_t,
                            Codes<float>*, ThreadPool&);
template void CodesFromTopK(const TopK<double>&, const std::int32_t*, std::int64_t, std::int64_t,
                            Codes<double>*, ThreadPool&);

}  // namespace sae::kernels
