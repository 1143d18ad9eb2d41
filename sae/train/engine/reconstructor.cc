#include "sae/train/engine/reconstructor.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "sae/kernels/row_ops.h"
#include "sae/kernels/sparse_decode.h"
#include "sae/kernels/vector_ops.h"

namespace sae::train {
namespace {
constexpr std::int64_t kTokens = 512;  // of one exchange of partial sums
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
Reconstructor<T>::Reconstructor(const Context& context)
    : context_(context), column_(Size(std::max(context.d, context.d_out))) {
  if (!context.options.fixed_reduction) return;
  own_blocks_ = kVirtualBlocks / context.communicator.size();
  block_ = model::VirtualBlocks(context.shard, kVirtualBlocks);
  const auto first = static_cast<std::uint8_t>(own_blocks_ * context.communicator.rank());
  for (std::uint8_t& block : block_) block = static_cast<std::uint8_t>(block - first);
  partial_.resize(Size(kTokens * context.d_out * own_blocks_));
  gathered_.resize(Size(kTokens * context.d_out * kVirtualBlocks));
  sums_.resize(Size(kVirtualBlocks * std::max(context.d, context.d_out)));
}

// out [tokens, d_out] += the part of `range`, tokens from first_token.
template <class T>
void Reconstructor<T>::Local(const Input& in, LatentRange range, std::int64_t first_token,
                             std::int64_t tokens, T* out) {
  const std::int64_t d = context_.d_out;
  const kernels::Codes<T>& codes = *in.codes;
  context_.pool.ParallelFor(tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      const auto row = Size(first_token + b);
      const auto first = codes.ids.begin() + codes.indptr[row];
      const auto last = codes.ids.begin() + codes.indptr[row + 1];
      auto it = std::lower_bound(first, last, range.first,
                                 [](std::int32_t id, std::int64_t bound) { return id < bound; });
      for (; it != last && *it < range.last; ++it) {
        const std::int64_t id = *it;
        const T f = in.f[it - codes.ids.begin()];
        kernels::Axpy(d, in.row_scale == nullptr ? f : f * in.row_scale[id], in.decoder + id * d,
                      out + b * d);
      }
    }
  });
}

template <class T>
void Reconstructor<T>::LocalBlocks(const Input& in, std::int64_t first_token, std::int64_t tokens,
                                   T* parts) {
  const std::int64_t d = context_.d_out;
  const kernels::Codes<T>& codes = *in.codes;
  context_.pool.ParallelFor(tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      const auto row = Size(first_token + b);
      for (std::int64_t e = codes.indptr[row]; e < codes.indptr[row + 1]; ++e) {
        const std::int64_t id = codes.ids[Size(e)];
        if (id < in.range.first || id >= in.range.last) continue;
        kernels::Axpy(d, in.row_scale == nullptr ? in.f[e] : in.f[e] * in.row_scale[id],
                      in.decoder + id * d, parts + (block_[Size(id)] * tokens + b) * d);
      }
    }
  });
}

template <class T>
absl::Status Reconstructor<T>::RunFixed(const Input& in, T* out, Phases* phases) {
  const std::int64_t d = context_.d_out;
  const int ranks = context_.communicator.size();
  for (std::int64_t token = 0; token < in.codes->tokens; token += kTokens) {
    const std::int64_t tokens = std::min(kTokens, in.codes->tokens - token);
    const std::int64_t part = tokens * d;
    {
      PhaseTimer timer(phases->decode);
      std::fill_n(partial_.begin(), own_blocks_ * part,
                  in.finite ? T(0) : std::numeric_limits<T>::quiet_NaN());
      if (in.finite) LocalBlocks(in, token, tokens, partial_.data());
    }
    const T* all = partial_.data();
    if (ranks > 1) {
      PhaseTimer timer(phases->exchange);
      const std::size_t own = Size(own_blocks_ * part);
      SAE_RETURN_IF_ERROR(context_.communicator.AllGather(
          std::span<const T>(partial_.data(), own),
          std::span<T>(gathered_.data(), own * Size(ranks))));
      all = gathered_.data();
    }
    PhaseTimer timer(phases->decode);
    context_.pool.ParallelFor(tokens, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t b = begin; b < end; ++b) {
        T* row = out + (token + b) * d;
        for (std::int64_t j = 0; j < d; ++j) row[j] = in.bias == nullptr ? T(0) : in.bias[j];
        for (std::int64_t v = 0; v < kVirtualBlocks; ++v)
          kernels::Axpy(d, T(1), all + v * part + b * d, row);
      }
    });
  }
  return absl::OkStatus();
}

template <class T>
absl::Status Reconstructor<T>::Run(const Input& in, T* out, Phases* phases) {
  if (fixed()) return RunFixed(in, out, phases);
  const std::int64_t d = context_.d_out;
  const std::int64_t values = in.codes->tokens * d;
  {
    PhaseTimer timer(phases->decode);
    if (in.bias != nullptr && context_.communicator.rank() == 0) {
      kernels::FillRows(in.bias, in.codes->tokens, d, out, context_.pool);
    } else {
      std::fill_n(out, values, T(0));
    }
    if (!in.finite) {
      std::fill_n(out, values, std::numeric_limits<T>::quiet_NaN());
    } else if (in.range.first == 0 && in.range.last == context_.shard.count &&
               in.row_scale == nullptr) {
      kernels::SparseDecodeParams<T> decode;
      decode.indptr = in.codes->indptr.data();
      decode.ids = in.codes->ids.data();
      decode.values = in.f;
      decode.decoder = in.decoder;
      decode.output = out;
      decode.tokens = in.codes->tokens;
      decode.d = d;
      kernels::cpu::SparseDecode(decode, context_.pool);
    } else {
      Local(in, in.range, 0, in.codes->tokens, out);
    }
  }
  if (context_.communicator.size() == 1) return absl::OkStatus();
  PhaseTimer timer(phases->exchange);
  return context_.communicator.AllReduceSum(std::span<T>(out, Size(values)));
}

template <class T>
absl::Status Reconstructor<T>::WeightedRowSum(const T* weights, const T* w, std::int64_t d,
                                              std::span<double> out, Phases* phases) {
  const auto width = Size(d);
  if (!fixed()) {
    {
      PhaseTimer timer(phases->backward);
      kernels::WeightedColumnSums(weights, w, context_.shard.count, d, column_.data(),
                                  context_.pool);
      std::copy_n(column_.begin(), width, out.begin());
    }
    if (context_.communicator.size() == 1) return absl::OkStatus();
    PhaseTimer timer(phases->exchange);
    return context_.communicator.AllReduceSum(out);
  }
  std::vector<double>& own = own_sums_;
  own.assign(Size(own_blocks_) * width, 0.0);
  {
    PhaseTimer timer(phases->backward);
    context_.pool.ParallelFor(d, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = 0; i < context_.shard.count; ++i) {
        const auto weight = static_cast<double>(weights[i]);
        double* to = own.data() + block_[Size(i)] * d;
        for (std::int64_t j = begin; j < end; ++j)
          to[j] += weight * static_cast<double>(w[i * d + j]);
      }
    });
  }
  PhaseTimer timer(phases->exchange);
  const std::span<double> all(sums_.data(), Size(kVirtualBlocks) * width);
  SAE_RETURN_IF_ERROR(
      context_.communicator.AllGather(std::span<const double>(own), all));
  std::fill(out.begin(), out.end(), 0.0);
  for (std::size_t i = 0; i < all.size(); ++i) out[i % width] += all[i];
  return absl::OkStatus();
}

template <class T>
absl::StatusOr<double> Reconstructor<T>::Total(std::span<const double> values, Phases* phases) {
  PhaseTimer timer(phases->exchange);
  if (!fixed()) {
    double sum = std::accumulate(values.begin(), values.end(), 0.0);
    SAE_RETURN_IF_ERROR(context_.communicator.AllReduceSum(std::span<double>(&sum, 1)));
    return sum;
  }
  std::vector<double>& own = own_sums_;
  own.assign(Size(own_blocks_), 0.0);
  const std::span<double> all(sums_.data(), Size(kVirtualBlocks));
  for (std::size_t i = 0; i < values.size(); ++i) own[block_[i]] += values[i];
  SAE_RETURN_IF_ERROR(
      context_.communicator.AllGather(std::span<const double>(own), all));
  return std::accumulate(all.begin(), all.end(), 0.0);
}

template class Reconstructor<float>;
template class Reconstructor<double>;

}  // namespace sae::train
