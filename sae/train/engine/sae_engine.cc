// Creation, initial values and state; steps in sae_engine_step.cc, evaluation in
// sae_engine_evaluate.cc.
#include "sae/train/engine/sae_engine.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "sae/base/random.h"
#include "sae/kernels/sparse_decode.h"
#include "sae/kernels/vector_ops.h"
#include "sae/model/init.h"

namespace sae::train {
namespace {

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

}  // namespace

template <class T>
SaeEngine<T>::SaeEngine(const Context& context)
    : context_(context),
      batch_(context.config.train.batch),
      topk_(context.config.sae.architecture == "topk"),
      schedule_(optim::ScheduleOf(context.config)),
      parameters_(context.shard.count, context.d),
      moments_(parameters_),
      since_fired_(Size(context.shard.count), 0),
      last_active_(batch_ * context.shard.latents / 2),
      x_(Size(batch_ * context.d)),
      x_hat_(Size(batch_ * context.d)),
      g_(Size(batch_ * context.d)),
      c_(Size(context.shard.count)),
      selector_(context.communicator, context.pool),
      offered_(Size(context.communicator.size()), context.shard.count),
      delta_sums_(Size(context.shard.count)),
      column_(Size(context.d)),
      reduce_(Size(context.d + 3)),
      bias_gradient_(Size(context.d)),
      evaluation_fired_(Size(context.shard.count)) {
  if (topk_ && context_.config.sae.aux_k.value_or(0) > 0)
    aux_ = std::make_unique<AuxK<T>>(context_, batch_);
  if (!topk_) dense_ = std::make_unique<DenseRelu<T>>(context_, batch_);
}

template <class T>
absl::Status SaeEngine<T>::Initialise(std::span<const float> sample) {
  SAE_ASSIGN_OR_RETURN(const model::SampleStatistics statistics,
                       model::MeasureSample(sample, context_.d));
  input_scale_ = statistics.input_scale;
  sample_variance_ = statistics.variance;
  model::InitialiseParameters(static_cast<std::uint64_t>(context_.config.train.seed),
                              context_.shard, statistics.bias, &parameters_);
  return topk_ ? ScaleEncoder() : absl::OkStatus();
}

// OpenAI's initial encoder scale: so that 256 random unit vectors come back with norm 1 in the
// mean. The mean is rounded, so that the order of sums over ranks does not reach the weights.
template <class T>
absl::Status SaeEngine<T>::ScaleEncoder() {
  constexpr std::int64_t kVectors = 256;
  const std::int64_t d = context_.d;
  const std::uint64_t seed =
      HashCounter(static_cast<std::uint64_t>(context_.config.train.seed), 1, 1);
  std::vector<double> direction(Size(d));
  double sum = 0;
  for (std::int64_t first = 0; first < kVectors; first += batch_) {
    const std::int64_t tokens = std::min(batch_, kVectors - first);
    for (std::int64_t b = 0; b < tokens; ++b) {
      model::UnitDirection(seed, first + b, direction);
      for (std::int64_t j = 0; j < d; ++j) {
        const double bias = parameters_.b_dec[Size(j)];
        x_[Size(b * d + j)] = static_cast<T>(input_scale_ * (direction[Size(j)] + bias));
      }
    }
    SAE_RETURN_IF_ERROR(Encode(tokens));
    SAE_RETURN_IF_ERROR(Decode(tokens));
    for (std::int64_t b = 0; b < tokens; ++b) {
      double squares = 0;
      for (std::int64_t j = 0; j < d; ++j) {
        const double r = static_cast<double>(x_hat_[Size(b * d + j)]) -
                         static_cast<double>(parameters_.b_dec[Size(j)]);
        squares += r * r;
      }
      sum += std::sqrt(squares);
    }
  }
  const double rho = model::RoundedScale(sum / static_cast<double>(kVectors));
  if (!(rho > 0) || !std::isfinite(rho)) return absl::OkStatus();
  for (T& w : parameters_.w_enc) w = static_cast<T>(static_cast<double>(w) / rho);
  return absl::OkStatus();
}

template <class T>
absl::Status SaeEngine<T>::CheckReady(std::span<const float> rows, const char* what) const {
  if (!(input_scale_ > 0)) {
    return absl::FailedPreconditionError(
        absl::StrCat(what, ": the engine has no parameters yet: call Initialise, or load a state"));
  }
  const auto size = static_cast<std::int64_t>(rows.size());
  if (size > 0 && size % context_.d == 0 && size / context_.d <= batch_) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat(what, ": ", size, " values are not 1 to ", batch_,
                                                 " rows of width ", context_.d));
}

template <class T>
void SaeEngine<T>::Load(std::span<const float> rows) {
  std::copy(rows.begin(), rows.end(), x_.begin());
}

template <class T>
kernels::EncodeInput<T> SaeEngine<T>::EncodeInputOf(std::int64_t tokens) const {
  kernels::EncodeInput<T> in;
  in.x = x_.data();
  in.tokens = tokens;
  in.d = context_.d;
  in.w = parameters_.w_enc.data();
  in.c = c_.data();
  in.latents = context_.shard.count;
  in.scale = inverse_scale();
  in.first_latent = context_.shard.Global(0);
  return in;
}

template <class T>
absl::Status SaeEngine<T>::Encode(std::int64_t tokens) {
  {
    PhaseTimer timer(phases_.encode);
    kernels::FoldBias(parameters_.w_enc.data(), parameters_.b_enc.data(), parameters_.b_dec.data(),
                      context_.shard.count, context_.d, c_.data(), context_.pool);
  }
  if (topk_) {
    return selector_.Select(EncodeInputOf(tokens), context_.config.sae.k, context_.shard.count,
                            offered_, &workspace_, &codes_, &finite_, &phases_);
  }
  PhaseTimer timer(phases_.encode);
  finite_ = kernels::EncodeAbove<T>(EncodeInputOf(tokens), nullptr, T(0), &workspace_, &codes_,
                                    context_.pool);
  return absl::OkStatus();
}

template <class T>
absl::Status SaeEngine<T>::Decode(std::int64_t tokens) {
  const std::int64_t values = tokens * context_.d;
  {
    PhaseTimer timer(phases_.decode);
    if (context_.communicator.rank() == 0) {
      kernels::FillRows(parameters_.b_dec.data(), tokens, context_.d, x_hat_.data(), context_.pool);
    } else {
      std::fill_n(x_hat_.begin(), values, T(0));
    }
    kernels::SparseDecodeParams<T> decode;
    decode.indptr = codes_.indptr.data();
    decode.ids = codes_.ids.data();
    decode.values = codes_.values.data();
    decode.decoder = parameters_.w_dec.data();
    decode.output = x_hat_.data();
    decode.tokens = tokens;
    decode.d = context_.d;
    if (finite_) {
      kernels::cpu::SparseDecode(decode, context_.pool);
    } else {
      std::fill_n(x_hat_.begin(), values, std::numeric_limits<T>::quiet_NaN());
    }
  }
  if (context_.communicator.size() == 1) return absl::OkStatus();
  PhaseTimer timer(phases_.exchange);
  return context_.communicator.AllReduceSum(std::span<T>(x_hat_.data(), Size(values)));
}

template <class T>
model::State SaeEngine<T>::state() {
  model::State s;
  const std::int64_t count = context_.shard.count;
  const std::int64_t d = context_.d;
  s.latents = context_.shard.latents;
  s.first = context_.shard.first;
  s.count = count;
  const auto add = [&](const std::string& suffix, model::Parameters<T>& p) {
    const DType dtype = DTypeOf<T>();
    s.tensors.push_back({"W_enc" + suffix, dtype, {count, d}, p.w_enc.data(), true});
    s.tensors.push_back({"W_dec" + suffix, dtype, {count, d}, p.w_dec.data(), true});
    s.tensors.push_back({"b_enc" + suffix, dtype, {count}, p.b_enc.data(), true});
    s.tensors.push_back({"b_dec" + suffix, dtype, {d}, p.b_dec.data(), false});
  };
  add("", parameters_);
  add(".adam_m", moments_.m);
  add(".adam_v", moments_.v);
  s.tensors.push_back({"tokens_since_fired", DType::kI64, {count}, since_fired_.data(), true});
  s.scalars = {{"step", &step_},
               {"tokens", &tokens_},
               {"last_active", &last_active_},
               {"input_scale", &input_scale_},
               {"sample_variance", &sample_variance_}};
  return s;
}

template <class T>
absl::Status SaeEngine<T>::StateLoaded() {
  last_tokens_ = 0;
  const auto bad = [](const char* name, auto value, const char* want) {
    return absl::DataLossError(absl::StrCat("loaded state: ", name, " is ", value, ", not ", want,
                                            ": the checkpoint is damaged or of another program"));
  };
  if (!(input_scale_ > 0) || !std::isfinite(input_scale_))
    return bad("input_scale", input_scale_, "positive");
  if (!(sample_variance_ >= 0) || !std::isfinite(sample_variance_)) {
    return bad("sample_variance", sample_variance_, "0 or more");
  }
  if (step_ < 0) return bad("step", step_, "0 or more");
  if (tokens_ < 0) return bad("tokens", tokens_, "0 or more");
  if (last_active_ < 0) return bad("last_active", last_active_, "0 or more");
  return absl::OkStatus();
}

template class SaeEngine<float>;
template class SaeEngine<double>;

template <class T>
absl::StatusOr<std::unique_ptr<Engine<T>>> CreateEngine(const config::TrialConfig& config,
                                                        std::int64_t d,
                                                        comm::Communicator& communicator,
                                                        ThreadPool& pool) {
  SAE_RETURN_IF_ERROR(config::Validate(config, d));
  if (d < 1)
    return absl::InvalidArgumentError(absl::StrCat("engine: width ", d, ": needs 1 or more"));
  if (communicator.size() != config.ranks) {
    return absl::InvalidArgumentError(absl::StrCat("engine: the config says ranks ", config.ranks,
                                                   " but ", communicator.size(),
                                                   " are running: start as many"));
  }
  const Context context{
      config::Resolve(config, d),
      model::ShardOf(config.sae.latents, communicator.size(), communicator.rank()), d, communicator,
      pool};
  return std::make_unique<SaeEngine<T>>(context);
}

template absl::StatusOr<std::unique_ptr<Engine<float>>> CreateEngine(const config::TrialConfig&,
                                                                     std::int64_t,
                                                                     comm::Communicator&,
                                                                     ThreadPool&);
template absl::StatusOr<std::unique_ptr<Engine<double>>> CreateEngine(const config::TrialConfig&,
                                                                      std::int64_t,
                                                                      comm::Communicator&,
                                                                      ThreadPool&);

}  // namespace sae::train
