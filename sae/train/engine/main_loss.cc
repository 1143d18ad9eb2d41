#include "sae/train/engine/main_loss.h"

#include <algorithm>

#include "sae/kernels/row_ops.h"
#include "sae/kernels/token_pass.h"
#include "sae/train/engine/squared_error.h"

namespace sae::train {
namespace {

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

template <class T>
MainLoss<T>::MainLoss(const Context& context, Reconstructor<T>& reconstructor)
    : context_(context),
      reconstructor_(reconstructor),
      skip_(context),
      x_hat_(Size(context.batch() * context.d_out)) {
  std::int64_t first = 0;
  for (const std::int64_t last : context.options.prefixes) {
    // Local ids rise with global ones: those of a prefix are consecutive.
    ranges_.push_back({context.shard.LocalBelow(first), context.shard.LocalBelow(last)});
    g_.emplace_back(context.options.columns ? 0 : x_hat_.size());
    first = last;
  }
}

template <class T>
typename Reconstructor<T>::Input MainLoss<T>::ReconstructorInput(const Input& in,
                                                                 const Entries<T>& e) const {
  typename Reconstructor<T>::Input r;
  r.codes = &e.codes;
  r.f = e.f();
  r.range = {0, context_.shard.count};
  r.decoder = in.parameters->w_dec.data();
  r.row_scale = in.row_scale;
  r.bias = in.parameters->b_dec.data();
  r.finite = e.finite;
  return r;
}

template <class T>
typename ColumnDecoder<T>::Input MainLoss<T>::ColumnInput(const Input& in,
                                                          const Entries<T>& e) const {
  typename ColumnDecoder<T>::Input c;
  c.batch = in.batch;
  c.w = in.parameters->w_dec.data();
  c.bias = in.parameters->b_dec.data();
  c.codes = &e.codes;
  c.f = e.f();
  c.finite = e.finite;
  c.rho = in.rho;
  return c;
}

template <class T>
absl::Status MainLoss<T>::Forward(const Input& in, const Entries<T>& entries, Phases* phases) {
  if (in.columns != nullptr) {
    SAE_RETURN_IF_ERROR(in.columns->Forward(ColumnInput(in, entries), phases));
    return in.columns->Reconstruction(x_hat_.data(), phases);
  }
  SAE_RETURN_IF_ERROR(reconstructor_.Run(ReconstructorInput(in, entries), x_hat_.data(), phases));
  PhaseTimer timer(phases->decode);
  skip_.Add(*in.batch, in.parameters->w_skip, x_hat_.data());
  return absl::OkStatus();
}

template <class T>
absl::Status MainLoss<T>::ForwardBackward(const Input& in, Entries<T>* entries, Phases* phases) {
  entries->u.resize(Size(entries->codes.nnz()));
  if (in.columns != nullptr) {
    SAE_ASSIGN_OR_RETURN(
        loss_, in.columns->ForwardBackward(ColumnInput(in, *entries), entries->u.data(), phases));
    return absl::OkStatus();
  }
  return ranges_.size() == 1 ? Plain(in, entries, phases) : Prefixes(in, entries, phases);
}

template <class T>
absl::Status MainLoss<T>::Plain(const Input& in, Entries<T>* entries, Phases* phases) {
  const ErrorParts<T> parts{&reconstructor_, &skip_, in.batch, &in.parameters->w_skip, in.rho};
  SAE_ASSIGN_OR_RETURN(
      loss_, SquaredError(context_, parts, ReconstructorInput(in, *entries), x_hat_.data(),
                          g_[0].data(), entries->u.data(), phases));
  return absl::OkStatus();
}

template <class T>
absl::Status MainLoss<T>::Prefixes(const Input& in, Entries<T>* entries, Phases* phases) {
  const Batch<T>& batch = *in.batch;
  const std::int64_t d = context_.d_out;
  const std::int64_t values = batch.tokens() * d;
  const model::Options& options = context_.options;
  loss_ = 0;
  typename Reconstructor<T>::Input part = ReconstructorInput(in, *entries);
  for (std::size_t group = 0; group < ranges_.size(); ++group) {
    part.range = ranges_[group];
    T* hat = group == 0 ? x_hat_.data() : g_[group].data();
    SAE_RETURN_IF_ERROR(reconstructor_.Run(part, hat, phases));
    PhaseTimer timer(phases->decode);
    if (group > 0) {
      context_.pool.ParallelFor(values, [&](std::int64_t begin, std::int64_t end, int) {
        kernels::Axpy(end - begin, T(1), hat + begin, x_hat_.data() + begin);
      });
    } else {
      skip_.Add(batch, in.parameters->w_skip, x_hat_.data());
    }
    part.bias = nullptr;
    const double weight = in.rho * options.prefix_weights[group];
    loss_ += weight * kernels::Residual(batch.y(), batch.scale(), x_hat_.data(), batch.tokens(), d,
                               static_cast<T>(2 * weight), g_[group].data(), context_.pool);
  }
  PhaseTimer timer(phases->backward);
  for (std::size_t group = ranges_.size() - 1; group > 0; --group) {
    context_.pool.ParallelFor(values, [&](std::int64_t begin, std::int64_t end, int) {
      kernels::Axpy(end - begin, T(1), g_[group].data() + begin, g_[group - 1].data() + begin);
    });
  }
  GroupGradients(in, entries);
  return absl::OkStatus();
}

// u of each entry, from its own group's gradient.
template <class T>
void MainLoss<T>::GroupGradients(const Input& in, Entries<T>* entries) {
  const kernels::Codes<T>& codes = entries->codes;
  const std::int64_t d = context_.d_out;
  context_.pool.ParallelFor(codes.tokens, [&](std::int64_t begin, std::int64_t end, int) {
    for (std::int64_t b = begin; b < end; ++b) {
      std::size_t group = 0;
      for (std::int64_t e = codes.indptr[Size(b)]; e < codes.indptr[Size(b) + 1]; ++e) {
        const std::int64_t id = codes.ids[Size(e)];
        while (id >= ranges_[group].last) ++group;
        const T scale = in.row_scale == nullptr ? T(1) : in.row_scale[id];
        entries->u[Size(e)] =
            scale * kernels::Dot(d, in.parameters->w_dec.data() + id * d, g_[group].data() + b * d);
      }
    }
  });
}

template class MainLoss<float>;
template class MainLoss<double>;

}  // namespace sae::train
