// The column decoder's layout, sums over tokens, norms and optimizer step.
#include <algorithm>
#include <cmath>

#include "sae/kernels/row_ops.h"
#include "sae/kernels/vector_ops.h"
#include "sae/train/engine/column_decoder.h"

namespace sae::train {
namespace {
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
absl::Status ColumnDecoder<T>::ToColumns(T* values) {
  const std::int64_t count = context_.shard.count, ranks = context_.communicator.size();
  const std::int64_t part = own_ * width_;  // of a row, of one rank
  std::vector<T> sent(Size(count * ranks * part)), received(sent.size());
  for (std::int64_t r = 0; r < ranks; ++r) {
    for (std::int64_t i = 0; i < count; ++i) {
      std::copy_n(values + i * context_.d_out + r * part, part,
                  sent.begin() + (r * count + i) * part);
    }
  }
  SAE_RETURN_IF_ERROR(
      context_.communicator.AllToAll(sent.data(), received.data(), count * part, DTypeOf<T>()));
  for (std::int64_t s = 0; s < ranks; ++s) {
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t c = 0; c < own_; ++c) {
        std::copy_n(received.begin() + (s * count + i) * part + c * width_, width_,
                    values + (c * context_.shard.latents + global_[Size(s * count + i)]) * width_);
      }
    }
  }
  return absl::OkStatus();
}

template <class T>
absl::Status ColumnDecoder<T>::ToRows(const T* columns, T* rows) {
  const std::int64_t count = context_.shard.count, ranks = context_.communicator.size();
  const std::int64_t part = own_ * width_;
  std::vector<T> sent(Size(count * ranks * part)), received(sent.size());
  for (std::int64_t s = 0; s < ranks; ++s) {
    for (std::int64_t i = 0; i < count; ++i) {
      for (std::int64_t c = 0; c < own_; ++c) {
        std::copy_n(columns + (c * context_.shard.latents + global_[Size(s * count + i)]) * width_, width_,
                    sent.begin() + (s * count + i) * part + c * width_);
      }
    }
  }
  SAE_RETURN_IF_ERROR(
      context_.communicator.AllToAll(sent.data(), received.data(), count * part, DTypeOf<T>()));
  for (std::int64_t r = 0; r < ranks; ++r) {
    for (std::int64_t i = 0; i < count; ++i) {
      std::copy_n(received.begin() + (r * count + i) * part, part,
                  rows + i * context_.d_out + r * part);
    }
  }
  return absl::OkStatus();
}

template <class T>
absl::Status ColumnDecoder<T>::Reconstruction(T* out, Phases* phases) {
  PhaseTimer timer(phases->exchange);
  const std::int64_t tokens = main_.codes.codes().tokens, values = ValuesOf(tokens);
  std::vector<T> all(Size(kColumnBlocks * values));
  SAE_RETURN_IF_ERROR(context_.communicator.AllGather(
      std::span<const T>(x_hat_.data(), Size(own_ * values)), std::span<T>(all)));
  for (std::int64_t c = 0; c < kColumnBlocks; ++c) {
    for (std::int64_t b = 0; b < tokens; ++b) {
      std::copy_n(all.begin() + (c * tokens + b) * width_, width_,
                  out + b * context_.d_out + c * width_);
    }
  }
  return absl::OkStatus();
}

template <class T>
absl::Status ColumnDecoder<T>::BiasGradient(T* out, Phases* phases) {
  const std::int64_t tokens = main_.codes.codes().tokens;
  column_.resize(Size(2 * own_ * width_));
  {
    PhaseTimer timer(phases->backward);
    T* more = column_.data() + own_ * width_;
    for (std::int64_t c = 0; c < own_; ++c) {
      T* sums = column_.data() + c * width_;
      kernels::ColumnSums(main_.g[0].data() + c * ValuesOf(tokens), tokens, width_, sums,
                          context_.pool);
      if (!aux_on_) continue;
      kernels::ColumnSums(aux_.g[0].data() + c * ValuesOf(tokens), tokens, width_, more,
                          context_.pool);
      kernels::Axpy(width_, T(1), more, sums);
    }
  }
  PhaseTimer timer(phases->exchange);
  return context_.communicator.AllGather(std::span<const T>(column_.data(), Size(own_ * width_)),
                                         std::span<T>(out, Size(context_.d_out)));
}

// all_norms_ from norm_parts_: 8 x n, block by block.
template <class T>
absl::Status ColumnDecoder<T>::ShareNorms(Phases* phases) {
  PhaseTimer timer(phases->exchange);
  all_norms_.resize(Size(kColumnBlocks * context_.shard.latents));
  return context_.communicator.AllGather(std::span<const T>(norm_parts_), std::span<T>(all_norms_));
}

template <class T>
absl::Status ColumnDecoder<T>::MeasureNorms(const T* w, std::vector<double>* norm2,
                                            Phases* phases) {
  const std::int64_t n = context_.shard.latents;
  norm_parts_.resize(Size(own_ * n));
  norm2->resize(Size(n));
  context_.pool.ParallelFor(own_ * n, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i)
      norm_parts_[Size(i)] = static_cast<T>(kernels::SumOfSquares(width_, w + i * width_));
  });
  SAE_RETURN_IF_ERROR(ShareNorms(phases));
  for (std::int64_t i = 0; i < n; ++i) {
    double sum = 0;
    for (std::int64_t c = 0; c < kColumnBlocks; ++c)
      sum += static_cast<double>(all_norms_[Size(c * n + i)]);
    (*norm2)[Size(i)] = sum;
  }
  return absl::OkStatus();
}

template <class T>
kernels::ColumnBlock<T> ColumnDecoder<T>::Block(std::int64_t block, const StepInput& in) const {
  const std::int64_t n = context_.shard.latents, first = block * n * width_;
  return {n, width_, in.w + first, in.m + first, in.v + first};
}

template <class T>
void ColumnDecoder<T>::CollectTerms(std::int64_t block) {
  const std::int64_t first = block * ValuesOf(main_.codes.codes().tokens);
  terms_.clear();
  for (std::size_t group = 0; group < groups_.size(); ++group) {
    terms_.push_back({&main_.codes.index(), main_.codes.f(), main_.u.data(),
                      main_.g[group].data() + first, groups_[group].first, groups_[group].last});
  }
  if (!aux_on_) return;
  terms_.push_back({&aux_.codes.index(), aux_.codes.f(), aux_.u.data(), aux_.g[0].data() + first, 0,
                    context_.shard.latents});
}

template <class T>
absl::StatusOr<kernels::ColumnStepOptions<T>> ColumnDecoder<T>::StepOptions(const StepInput& in,
                                                                            Phases* phases) {
  kernels::ColumnStepOptions<T> options;
  options.adam = in.adam;
  options.unit = context_.options.decoder == model::DecoderMode::kUnit;
  options.gradient_scale = in.gradient_scale;
  options.norm2 = norm2_.data();
  if (in.norm_gradient == nullptr || options.unit) return options;
  PhaseTimer timer(phases->exchange);
  // By rank and local id, then by global id.
  const std::int64_t count = context_.shard.count, ranks = context_.communicator.size();
  norm_gradient_.resize(Size(2 * context_.shard.latents));
  T* all = norm_gradient_.data() + context_.shard.latents;
  SAE_RETURN_IF_ERROR(context_.communicator.AllGather(
      std::span<const T>(in.norm_gradient, Size(count)), std::span<T>(all, Size(ranks * count))));
  for (std::int64_t s = 0; s < ranks; ++s) {
    for (std::int64_t i = 0; i < count; ++i)
      norm_gradient_[Size(global_[Size(s * count + i)])] = all[s * count + i];
  }
  options.norm_gradient = norm_gradient_.data();
  return options;
}

template <class T>
absl::StatusOr<double> ColumnDecoder<T>::GradientSquaredNorm(const StepInput& in, Phases* phases) {
  SAE_ASSIGN_OR_RETURN(const auto options, StepOptions(in, phases));
  own_sums_.resize(Size(own_));
  {
    PhaseTimer timer(phases->update);
    for (std::int64_t c = 0; c < own_; ++c) {
      CollectTerms(c);
      own_sums_[Size(c)] =
          kernels::ColumnSquaredNorm<T>(terms_, options, Block(c, in), &workspace_, context_.pool);
    }
  }
  return SumBlocks(own_sums_, phases);
}

template <class T>
absl::Status ColumnDecoder<T>::Update(const StepInput& in, Phases* phases) {
  SAE_ASSIGN_OR_RETURN(const auto options, StepOptions(in, phases));
  const std::int64_t n = context_.shard.latents;
  norm_parts_.resize(Size(own_ * n));
  {
    PhaseTimer timer(phases->update);
    for (std::int64_t c = 0; c < own_; ++c) {
      CollectTerms(c);
      kernels::ColumnStep<T>(terms_, options, Block(c, in), norm_parts_.data() + c * n, &workspace_,
                             context_.pool);
    }
  }
  // Free rows whose norms nobody asks for.
  if (!options.unit && in.norm_gradient == nullptr) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(ShareNorms(phases));
  PhaseTimer timer(phases->update);
  factors_.assign(Size(n), T(1));
  context_.pool.ParallelFor(n, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t i = begin; i < end; ++i) {
      double sum = 0;
      bool rests = true;
      for (std::int64_t c = 0; c < kColumnBlocks; ++c) {
        const T part = all_norms_[Size(c * n + i)];
        sum += static_cast<double>(std::abs(part));
        rests = rests && std::signbit(part);
      }
      norm2_[Size(i)] = sum;
      if (!options.unit || rests) continue;
      factors_[Size(i)] = static_cast<T>(kernels::InverseNorm(sum));
      norm2_[Size(i)] *=
          static_cast<double>(factors_[Size(i)]) * static_cast<double>(factors_[Size(i)]);
    }
  });
  if (!options.unit) return absl::OkStatus();
  for (std::int64_t c = 0; c < own_; ++c)
    kernels::RescaleRows(Block(c, in), factors_.data(), context_.pool);
  return absl::OkStatus();
}

#define SAE_INSTANTIATE(T)                                                                       \
  template absl::Status ColumnDecoder<T>::ToColumns(T*);                                         \
  template absl::Status ColumnDecoder<T>::ToRows(const T*, T*);                                  \
  template absl::Status ColumnDecoder<T>::Reconstruction(T*, Phases*);                           \
  template absl::Status ColumnDecoder<T>::BiasGradient(T*, Phases*);                             \
  template absl::Status ColumnDecoder<T>::MeasureNorms(const T*, std::vector<double>*, Phases*); \
  template absl::StatusOr<double> ColumnDecoder<T>::GradientSquaredNorm(const StepInput&,        \
                                                                        Phases*);                \
  template absl::Status ColumnDecoder<T>::Update(const StepInput&, Phases*);
SAE_INSTANTIATE(float)
SAE_INSTANTIATE(double)
#undef SAE_INSTANTIATE

}  // namespace sae::train
