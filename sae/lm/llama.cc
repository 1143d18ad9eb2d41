// The Llama forward pass. LibTorch gives memory, threads and the output layer; linear layers and
// the products of attention run through oneDNN, which is more than twice as fast here as at::mm.
// Numerics: residual stream, norms, softmax and RoPE in float32; with Compute::kBf16 the inputs of
// the linear layers and their weights are rounded to bfloat16 and products accumulate in float32.

#include <algorithm>
#include <atomic>
#include <exception>
#include <optional>

#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "sae/base/mutex.h"
#include "sae/lm/attention.h"
#include "sae/lm/language_model.h"
#include "sae/lm/llama_weights.h"
#include "sae/lm/matmul.h"
#include "sae/lm/micro_batch.h"

namespace sae::lm {
namespace {

// Tokens one thread takes through all blocks at a time: the residual stream and the MLP's hidden
// layer are then 4 MB, and packed weights are read once for 256 rows.
constexpr std::int64_t kMicroBatchTokens = 256;
// Rows of the unembedding dequantised at a time.
constexpr std::int64_t kVocabularyChunk = 4096;

/// LibTorch throws c10::Error; this is the one place that turns it into a Status.
template <class Function>
absl::Status CatchToStatus(const char* context, const Function& function) {
  try {
    return function();
  } catch (const c10::OutOfMemoryError& error) {
    return absl::ResourceExhaustedError(
        absl::StrCat(context, ": ", error.what_without_backtrace()));
  } catch (const c10::Error& error) {
    return absl::InternalError(absl::StrCat(context, ": ", error.what_without_backtrace()));
  } catch (const std::exception& error) {
    return absl::InternalError(absl::StrCat(context, ": ", error.what()));
  }
}

float* Data(at::Tensor& tensor) { return tensor.data_ptr<float>(); }

/// Memory of one thread; grows to the largest micro-batch.
class Worker {
 public:
  void Reserve(const LlamaConfig& c, Compute compute, std::int64_t tokens, std::int64_t longest) {
    if (tokens <= tokens_ && longest <= longest_) return;
    tokens_ = std::max(tokens_, tokens);
    longest_ = std::max(longest_, longest);
    const std::int64_t rows = MatmulRunner::PaddedRows(tokens_);
    const auto plain = at::TensorOptions().dtype(at::kFloat);
    const auto input =
        at::TensorOptions().dtype(compute == Compute::kF32 ? at::kFloat : at::kBFloat16);
    // Zeros, since padding rows are read by the products.
    stream_ = at::zeros({rows, c.d}, plain);
    input_ = at::zeros({rows, std::max({c.d, c.mlp, c.q_width()})}, input);
    wide_ = at::zeros({rows, std::max(2 * c.mlp, c.q_width() + 2 * c.kv_width())}, plain);
    result_ = at::zeros({rows, c.d}, plain);
    q_ = at::empty({tokens_, c.q_width()}, plain);
    k_ = at::empty({tokens_, c.kv_width()}, plain);
    v_ = at::empty({tokens_, c.kv_width()}, plain);
    scores_ = at::empty({kQueryBlock * c.group(), ScoreStride(longest_)}, plain);
    mixed_ = at::empty({kQueryBlock * c.group(), c.head_size}, plain);
    attention = {Data(q_), Data(k_), Data(v_), Data(scores_), Data(mixed_)};
  }
  float* stream() { return Data(stream_); }
  float* wide() { return Data(wide_); }
  float* result() { return Data(result_); }
  const void* input_data() const { return input_.data_ptr(); }
  Destination input() {
    if (input_.scalar_type() == at::kFloat) return {Data(input_), nullptr};
    return {nullptr, reinterpret_cast<std::uint16_t*>(input_.data_ptr<at::BFloat16>())};
  }

  AttentionWorkspace attention;
  MatmulRunner matmul;

 private:
  std::int64_t tokens_ = 0;
  std::int64_t longest_ = 0;
  at::Tensor stream_, input_, wide_, result_, q_, k_, v_, scores_, mixed_;
};

/// Copies a hook's rows to where the caller wants them.
class HookSink {
 public:
  HookSink(const std::vector<Hook>& hooks, const std::vector<std::span<float>>& out, std::int64_t d)
      : hooks_(hooks), out_(out), d_(d), last_(*std::max_element(hooks.begin(), hooks.end())) {}
  void Take(const Hook& hook, const MicroBatch& micro, const float* rows) const {
    for (std::size_t i = 0; i < hooks_.size(); ++i) {
      if (hooks_[i] == hook)
        std::copy(rows, rows + micro.tokens() * d_, out_[i].data() + micro.first_token * d_);
    }
  }
  bool Wants(const Hook& hook) const {
    return std::find(hooks_.begin(), hooks_.end(), hook) != hooks_.end();
  }
  bool DoneAfter(const Hook& hook) const { return hook >= last_; }

 private:
  const std::vector<Hook>& hooks_;
  const std::vector<std::span<float>>& out_;
  std::int64_t d_;
  Hook last_;
};

class Llama final : public LanguageModel {
 public:
  Llama(const GgufReader& gguf, LlamaConfig config, const LanguageModelOptions& options)
      : gguf_(gguf),
        config_(std::move(config)),
        options_(options),
        no_gain_(static_cast<std::size_t>(config_.d), 1.0F),
        workers_(static_cast<std::size_t>(options.threads)) {}

  absl::Status Load() {
    SAE_ASSIGN_OR_RETURN(embedding_, gguf_.Tensor("token_embd.weight"));
    if (!CanDequantise(embedding_->type)) {
      std::vector<float> none;
      return Annotate(Dequantise(embedding_->type, {}, none), "tensor token_embd.weight");
    }
    unembedding_ = embedding_;
    if (auto own = gguf_.Tensor("output.weight"); own.ok()) unembedding_ = *own;
    SAE_ASSIGN_OR_RETURN(output_norm_, gguf_.Floats("output_norm.weight", {config_.d}));
    const std::int64_t count =
        options_.blocks < 0 ? config_.blocks : std::min(options_.blocks, config_.blocks);
    for (std::int64_t block = 0; block < count; ++block) {
      SAE_ASSIGN_OR_RETURN(LlamaBlock loaded, LoadBlock(gguf_, config_, block, options_.compute));
      blocks_.push_back(std::move(loaded));
    }
    return absl::OkStatus();
  }

  const LlamaConfig& config() const override { return config_; }

  absl::Status Run(const TokenBatch& batch, const std::vector<Hook>& hooks,
                   const std::vector<std::span<float>>& out) override {
    return CatchToStatus("forward pass", [&] { return RunChecked(batch, hooks, out); });
  }

  absl::StatusOr<std::vector<float>> Logits(const TokenBatch& batch,
                                            const std::vector<std::int64_t>& rows) override {
    std::vector<float> out;
    const absl::Status status = CatchToStatus("logits", [&]() -> absl::Status {
      at::Tensor logits;
      SAE_RETURN_IF_ERROR(LogitsOf(batch, rows, logits));
      out.assign(Data(logits), Data(logits) + logits.numel());
      return absl::OkStatus();
    });
    if (!status.ok()) return status;
    return out;
  }

  absl::StatusOr<double> MeanCrossEntropy(const TokenBatch& batch) override {
    std::vector<std::int64_t> rows;
    for (std::int64_t span = 0; span < batch.spans(); ++span) {
      const std::int64_t begin = batch.span_begins[static_cast<std::size_t>(span)];
      for (std::int64_t t = begin; t + 1 < batch.span_end(span); ++t) rows.push_back(t);
    }
    if (rows.empty()) return absl::InvalidArgumentError("cross-entropy: no token has a next one");
    const auto count = static_cast<std::int64_t>(rows.size());
    double sum = 0;
    const absl::Status status = CatchToStatus("cross-entropy", [&]() -> absl::Status {
      at::Tensor logits;
      SAE_RETURN_IF_ERROR(LogitsOf(batch, rows, logits));
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t next =
            batch.tokens[static_cast<std::size_t>(rows[static_cast<std::size_t>(i)] + 1)];
        sum -= at::log_softmax(logits[i].to(at::kDouble), 0)[next].item<double>();
      }
      return absl::OkStatus();
    });
    if (!status.ok()) return status;
    return sum / static_cast<double>(count);
  }

 private:
  absl::Status CheckHooks(const TokenBatch& batch, const std::vector<Hook>& hooks,
                          const std::vector<std::span<float>>& out) const {
    if (hooks.empty() || hooks.size() != out.size()) {
      return absl::InvalidArgumentError(
          absl::StrCat(hooks.size(), " hooks but ", out.size(), " outputs"));
    }
    for (std::size_t i = 0; i < hooks.size(); ++i) {
      if (static_cast<std::int64_t>(out[i].size()) != batch.size() * config_.d) {
        return absl::InvalidArgumentError(absl::StrCat(HookName(hooks[i]), ": output holds ",
                                                       out[i].size(), " values, not ", batch.size(),
                                                       " x ", config_.d));
      }
      if (hooks[i].point != HookPoint::kEmbed &&
          hooks[i].block >= static_cast<int>(blocks_.size())) {
        return absl::FailedPreconditionError(absl::StrCat(HookName(hooks[i]), ": only ",
                                                          blocks_.size(), " blocks of ",
                                                          config_.blocks, " are loaded"));
      }
    }
    return ValidateBatch(batch, config_);
  }

  absl::Status RunChecked(const TokenBatch& batch, const std::vector<Hook>& hooks,
                          const std::vector<std::span<float>>& out) {
    SAE_RETURN_IF_ERROR(CheckHooks(batch, hooks, out));
    const c10::InferenceMode guard;
    const std::vector<MicroBatch> pieces = CutMicroBatches(batch, kMicroBatchTokens);
    std::int64_t longest = 0;
    for (std::int64_t i = 0; i < batch.spans(); ++i) {
      longest =
          std::max(longest, batch.span_end(i) - batch.span_begins[static_cast<std::size_t>(i)]);
    }
    const std::int64_t turned =
        rope_ ? static_cast<std::int64_t>(rope_->cosine.size()) / rope_->half : 0;
    if (turned < longest) rope_.emplace(longest, config_.head_size, config_.rope_base);

    const HookSink sink(hooks, out, config_.d);
    std::atomic<std::size_t> next{0};
    Mutex mu;
    absl::Status status;
    at::set_num_threads(options_.threads);
    at::parallel_for(0, options_.threads, 1, [&](std::int64_t first, std::int64_t last) {
      const c10::InferenceMode thread_guard;
      for (std::int64_t w = first; w < last; ++w) {
        Worker& worker = workers_[static_cast<std::size_t>(w)];
        worker.Reserve(config_, options_.compute,
                       std::max(pieces[0].tokens(), std::min(batch.size(), kMicroBatchTokens)),
                       longest);
        for (std::size_t i = next++; i < pieces.size(); i = next++) {
          if (absl::Status s = RunMicro(batch, pieces[i], sink, worker); !s.ok()) {
            const MutexLock lock(mu);
            status.Update(s);
            return;
          }
        }
      }
    });
    return status;
  }

  absl::Status RunMicro(const TokenBatch& batch, const MicroBatch& micro, const HookSink& sink,
                        Worker& w) const {
    const std::int64_t rows = micro.tokens();
    for (std::int64_t t = 0; t < rows; ++t) {
      const std::int32_t token = batch.tokens[static_cast<std::size_t>(micro.first_token + t)];
      SAE_RETURN_IF_ERROR(DequantiseRows(*embedding_, token, 1, w.stream() + t * config_.d));
    }
    sink.Take(Hook{}, micro, w.stream());
    if (sink.DoneAfter(Hook{})) return absl::OkStatus();
    for (std::size_t block = 0; block < blocks_.size(); ++block) {
      SAE_ASSIGN_OR_RETURN(const bool done,
                           RunBlock(blocks_[block], static_cast<int>(block), micro, sink, w));
      if (done) break;
    }
    return absl::OkStatus();
  }

  /// True when no hook lies beyond.
  absl::StatusOr<bool> RunBlock(const LlamaBlock& block, int number, const MicroBatch& micro,
                                const HookSink& sink, Worker& w) const {
    const std::int64_t rows = micro.tokens();
    const auto eps = static_cast<float>(config_.norm_eps);
    const auto done = [&](HookPoint point, const float* values) {
      sink.Take({number, point}, micro, values);
      return sink.DoneAfter({number, point});
    };
    if (done(HookPoint::kResidPre, w.stream())) return true;
    RmsNorm(w.stream(), block.attention_norm.data(), rows, config_.d, eps, w.input());
    SAE_RETURN_IF_ERROR(w.matmul.Run(block.qkv, w.input_data(), rows, w.wide()));
    SAE_RETURN_IF_ERROR(Attend(config_, *rope_, w.wide(), micro.begins, w.attention, w.input()));
    SAE_RETURN_IF_ERROR(w.matmul.Run(block.attention_out, w.input_data(), rows, w.result()));
    if (done(HookPoint::kAttnOut, w.result())) return true;
    AddTo(w.stream(), w.result(), rows * config_.d);
    if (sink.Wants({number, HookPoint::kLn2Normalized})) {
      RmsNorm(w.stream(), no_gain_.data(), rows, config_.d, eps, {w.result(), nullptr});
      if (done(HookPoint::kLn2Normalized, w.result())) return true;
    }
    RmsNorm(w.stream(), block.mlp_norm.data(), rows, config_.d, eps, w.input());
    SAE_RETURN_IF_ERROR(w.matmul.Run(block.gate_up, w.input_data(), rows, w.wide()));
    SwiGlu(w.wide(), rows, config_.mlp, w.input());
    SAE_RETURN_IF_ERROR(w.matmul.Run(block.down, w.input_data(), rows, w.result()));
    if (done(HookPoint::kMlpOut, w.result())) return true;
    AddTo(w.stream(), w.result(), rows * config_.d);
    return done(HookPoint::kResidPost, w.stream());
  }

  absl::Status LogitsOf(const TokenBatch& batch, const std::vector<std::int64_t>& rows,
                        at::Tensor& logits) {
    const c10::InferenceMode guard;
    std::vector<float> last(static_cast<std::size_t>(batch.size() * config_.d));
    const Hook hook{static_cast<int>(config_.blocks) - 1, HookPoint::kResidPost};
    SAE_RETURN_IF_ERROR(RunChecked(batch, {hook}, {last}));
    const auto count = static_cast<std::int64_t>(rows.size());
    at::Tensor normed = at::empty({count, config_.d}, at::kFloat);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::int64_t row = rows[static_cast<std::size_t>(i)];
      if (row < 0 || row >= batch.size()) {
        return absl::InvalidArgumentError(
            absl::StrCat("row ", row, " of a batch of ", batch.size()));
      }
      RmsNorm(last.data() + row * config_.d, output_norm_.data(), 1, config_.d,
              static_cast<float>(config_.norm_eps), {Data(normed) + i * config_.d, nullptr});
    }
    logits = at::empty({count, config_.vocabulary}, at::kFloat);
    at::Tensor chunk =
        at::empty({std::min(kVocabularyChunk, config_.vocabulary), config_.d}, at::kFloat);
    for (std::int64_t first = 0; first < config_.vocabulary; first += kVocabularyChunk) {
      const std::int64_t size = std::min(kVocabularyChunk, config_.vocabulary - first);
      SAE_RETURN_IF_ERROR(DequantiseRows(*unembedding_, first, size, Data(chunk)));
      logits.slice(1, first, first + size).copy_(at::mm(normed, chunk.slice(0, 0, size).t()));
    }
    return absl::OkStatus();
  }

  const GgufReader& gguf_;
  LlamaConfig config_;
  LanguageModelOptions options_;
  const std::vector<float> no_gain_;  ///< [d] of 1: a norm without its gain
  const GgufTensor* embedding_ = nullptr;
  const GgufTensor* unembedding_ = nullptr;
  std::vector<float> output_norm_;
  std::vector<LlamaBlock> blocks_;
  std::optional<RopeTable> rope_;
  std::vector<Worker> workers_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<LanguageModel>> LoadLlama(const GgufReader& gguf,
                                                         const LanguageModelOptions& options) {
  if (options.threads < 1) {
    return absl::InvalidArgumentError(
        absl::StrCat("threads is ", options.threads, ", must be at least 1"));
  }
  SAE_ASSIGN_OR_RETURN(LlamaConfig config, ReadLlamaConfig(gguf));
  auto model = std::make_unique<Llama>(gguf, std::move(config), options);
  SAE_RETURN_IF_ERROR(CatchToStatus("loading the model", [&] { return model->Load(); }));
  return model;
}

}  // namespace sae::lm
