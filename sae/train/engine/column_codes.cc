#include "sae/train/engine/column_codes.h"

#include <algorithm>
#include <numeric>


namespace sae::train {
namespace {
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
absl::Status ColumnCodes<T>::GatherCounts(const kernels::Codes<T>& own, bool finite) {
  const std::int64_t tokens = own.tokens, row = tokens + 1;
  comm::Communicator& shards = context_.communicator;
  counts_.resize(Size(row * (shards.size() + 1)));
  std::int32_t* mine = counts_.data() + row * shards.size();
  for (std::int64_t b = 0; b < tokens; ++b) {
    mine[b] = finite ? static_cast<std::int32_t>(own.indptr[Size(b) + 1] - own.indptr[Size(b)]) : 0;
  }
  mine[tokens] = finite ? 1 : 0;
  SAE_RETURN_IF_ERROR(
      shards.AllGather(std::span<const std::int32_t>(mine, Size(row)),
                       std::span<std::int32_t>(counts_.data(), Size(row * shards.size()))));
  finite_ = true;
  sizes_.assign(Size(shards.size()), 0);
  starts_.resize(Size(tokens * shards.size()));
  std::int64_t at = 0;
  for (std::int64_t r = 0; r < shards.size(); ++r) {
    if (r == shards.rank()) own_first_ = at;
    for (std::int64_t b = 0; b < tokens; ++b) {
      starts_[Size(r * tokens + b)] = at;
      at += counts_[Size(r * row + b)];
    }
    sizes_[Size(r)] = at - (r == 0 ? 0 : starts_[Size(r * tokens)]);
    finite_ = finite_ && counts_[Size(r * row + tokens)] != 0;
  }
  own_size_ = sizes_[Size(shards.rank())];
  return absl::OkStatus();
}

// Each token's entries of all ranks in ascending id.
template <class T>
void ColumnCodes<T>::Merge() {
  const std::int64_t tokens = codes_.tokens, row = tokens + 1, ranks = context_.communicator.size();
  codes_.indptr.resize(Size(row));
  codes_.indptr[0] = 0;
  for (std::int64_t b = 0; b < tokens; ++b) {
    std::int64_t count = 0;
    for (std::int64_t r = 0; r < ranks; ++r) count += counts_[Size(r * row + b)];
    codes_.indptr[Size(b) + 1] = codes_.indptr[Size(b)] + count;
  }
  codes_.ids.resize(received_.size());
  place_.resize(received_.size());
  context_.pool.ParallelFor(tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      // place_ first holds which received entry stands where, sorted; then it is inverted.
      std::int64_t at = codes_.indptr[Size(b)];
      const auto first = place_.begin() + at;
      for (std::int64_t r = 0; r < ranks; ++r) {
        const std::int64_t from = starts_[Size(r * tokens + b)];
        for (std::int64_t e = 0; e < counts_[Size(r * row + b)]; ++e) place_[Size(at++)] = from + e;
      }
      std::sort(first, place_.begin() + at, [&](std::int64_t x, std::int64_t y) {
        return received_[Size(x)] < received_[Size(y)];
      });
      for (std::int64_t e = codes_.indptr[Size(b)]; e < at; ++e)
        codes_.ids[Size(e)] = received_[Size(place_[Size(e)])];
    }
  });
}

template <class T>
absl::Status ColumnCodes<T>::Gather(const kernels::Codes<T>& own, const T* f, bool finite,
                                    Phases* phases) {
  {
    PhaseTimer timer(phases->exchange);
    SAE_RETURN_IF_ERROR(GatherCounts(own, finite));
    ids_.resize(Size(own_size_));
    for (std::size_t e = 0; e < ids_.size(); ++e)
      ids_[e] = static_cast<std::int32_t>(context_.shard.Global(own.ids[e]));
    received_.resize(Size(std::accumulate(sizes_.begin(), sizes_.end(), std::int64_t{0})));
    SAE_RETURN_IF_ERROR(
        context_.communicator.AllGatherV(ids_.data(), received_.data(), sizes_, DType::kI32));
  }
  {
    PhaseTimer timer(phases->select);
    codes_.tokens = own.tokens;
    codes_.latents = context_.shard.latents;
    Merge();
  }
  SAE_RETURN_IF_ERROR(GatherValues(f, &codes_.values, phases));
  PhaseTimer timer(phases->select);
  kernels::BuildLatentIndex(codes_, &index_, context_.pool);
  return absl::OkStatus();
}

template <class T>
absl::Status ColumnCodes<T>::GatherValues(const T* own, std::vector<T>* out, Phases* phases) {
  values_.resize(received_.size());
  {
    PhaseTimer timer(phases->exchange);
    SAE_RETURN_IF_ERROR(
        context_.communicator.AllGatherV(own, values_.data(), sizes_, DTypeOf<T>()));
  }
  PhaseTimer timer(phases->select);
  out->resize(values_.size());
  context_.pool.ParallelFor(static_cast<std::int64_t>(out->size()),
                            [&](std::int64_t begin, std::int64_t end, int) {
                              for (std::int64_t e = begin; e < end; ++e)
                                (*out)[Size(e)] = values_[Size(place_[Size(e)])];
                            });
  return absl::OkStatus();
}

template <class T>
void ColumnCodes<T>::Own(const T* all, T* own) const {
  context_.pool.ParallelFor(codes_.nnz(), [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t e = begin; e < end; ++e) {
      const std::int64_t from = place_[Size(e)] - own_first_;
      if (from >= 0 && from < own_size_) own[from] = all[e];
    }
  });
}

template class ColumnCodes<float>;
template class ColumnCodes<double>;

}  // namespace sae::train
