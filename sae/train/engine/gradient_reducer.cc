#include "sae/train/engine/gradient_reducer.h"

#include <algorithm>

#include "sae/kernels/gradient_rows.h"
#include "sae/kernels/row_ops.h"

namespace sae::train {
namespace {

constexpr std::int64_t kChunkElements = std::int64_t{1} << 20;

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

std::int64_t ChunkOf(const Context& c, std::int64_t own) {
  return std::clamp<std::int64_t>(kChunkElements / ((c.d + c.d_out) * c.replicas()), 1,
                                  std::max<std::int64_t>(1, own));
}

template <class T>
void IndexRows(const T* rows, std::int64_t count, std::int64_t d, kernels::LatentIndex* out) {
  out->latents = count;
  out->indptr.resize(Size(count) + 1);
  out->tokens.resize(Size(count));
  out->entries.resize(Size(count));
  std::int64_t used = 0;
  out->indptr[0] = 0;
  for (std::int64_t i = 0; i < count; ++i) {
    if (!kernels::AllZero(d, rows + i * d)) {
      out->tokens[Size(used)] = static_cast<std::int32_t>(i);
      out->entries[Size(used)] = i;
      ++used;
    }
    out->indptr[Size(i) + 1] = used;
  }
}

}  // namespace

template <class T>
GradientReducer<T>::GradientReducer(const Context& context)
    : context_(context),
      own_(context.shard.count / context.replicas()),
      chunk_(ChunkOf(context, own_)),
      enc_(Size(own_ * context.d)),
      dec_(Size(own_ * context.d_out)),
      enc_chunk_(Size(context.replicas() * chunk_ * context.d)),
      dec_chunk_(Size(context.replicas() * chunk_ * context.d_out)),
      ones_(Size(own_), T(1)) {
  terms_.push_back({&dec_index_, ones_.data(), nullptr, dec_.data()});
  terms_.push_back({&enc_index_, nullptr, ones_.data(), nullptr});
}

template <class T>
template <class Make>
absl::Status GradientReducer<T>::ReduceRows(const Make& make, Phases* phases) {
  comm::Communicator& replicas = context_.mesh.replicas();
  const std::int64_t d = context_.d, d_out = context_.d_out;
  for (std::int64_t first = 0; first < own_; first += chunk_) {
    const std::int64_t rows = std::min(chunk_, own_ - first);
    {
      PhaseTimer timer(phases->update);
      context_.pool.ParallelFor(
          rows * replicas.size(), [&](std::int64_t begin, std::int64_t end, int) {
            for (std::int64_t at = begin; at < end; ++at) {
              const std::int64_t latent = at / rows * own_ + first + at % rows;
              make(latent, dec_chunk_.data() + at * d_out, enc_chunk_.data() + at * d);
            }
          });
    }
    PhaseTimer timer(phases->exchange);
    SAE_RETURN_IF_ERROR(replicas.ReduceScatter(enc_chunk_.data(), enc_.data() + first * d, rows * d,
                                               DTypeOf<T>(), comm::ReduceOp::kSum));
    SAE_RETURN_IF_ERROR(replicas.ReduceScatter(dec_chunk_.data(), dec_.data() + first * d_out,
                                               rows * d_out, DTypeOf<T>(), comm::ReduceOp::kSum));
  }
  PhaseTimer timer(phases->update);
  IndexRows(enc_.data(), own_, d, &enc_index_);
  IndexRows(dec_.data(), own_, d_out, &dec_index_);
  return absl::OkStatus();
}

template <class T>
absl::Status GradientReducer<T>::Reduce(const kernels::RowGradientInput<T>& input, const T* w_dec,
                                        Phases* phases) {
  const T share = T(1) / static_cast<T>(context_.replicas());
  return ReduceRows(
      [&](std::int64_t latent, T* g_dec, T* g_enc) {
        kernels::MakeGradientRows(input, w_dec, latent, share, g_dec, g_enc);
      },
      phases);
}

template <class T>
absl::Status GradientReducer<T>::ReduceDense(const T* enc, const T* dec, Phases* phases) {
  const std::int64_t d = context_.d, d_out = context_.d_out;
  const T share = T(1) / static_cast<T>(context_.replicas());
  return ReduceRows(
      [&](std::int64_t latent, T* g_dec, T* g_enc) {
        std::transform(dec + latent * d_out, dec + (latent + 1) * d_out, g_dec,
                       [=](T v) { return share * v; });
        std::transform(enc + latent * d, enc + (latent + 1) * d, g_enc,
                       [=](T v) { return share * v; });
      },
      phases);
}

template <class T>
kernels::RowGradientInput<T> GradientReducer<T>::OwnedInput() const {
  kernels::RowGradientInput<T> in;
  in.latents = own_;
  in.d = context_.d;
  in.d_out = context_.d_out;
  in.x = enc_.data();
  in.terms = terms_;
  return in;
}

template <class T>
absl::Status GradientReducer<T>::Share(T* rows, std::int64_t width, Phases* phases) {
  PhaseTimer timer(phases->exchange);
  const std::int64_t values = own_ * width;
  // Onto the own part: it stays where it is.
  return context_.mesh.replicas().AllGather(
      std::span<const T>(rows + context_.Owned().first * width, Size(values)),
      std::span<T>(rows, Size(values * context_.replicas())));
}

template class GradientReducer<float>;
template class GradientReducer<double>;

}  // namespace sae::train
