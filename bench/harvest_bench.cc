// Tokens a second of the language model's forward pass up to a hook, as the harvester runs it,
// against the best rate that a float32 matrix product reaches on the same shapes in the same run,
// and peak memory. Rounds of both alternate, medians are printed: a shared machine disturbs them
// alike.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "sae/base/random.h"
#include "sae/lm/language_model.h"
#include "sae/lm/matmul.h"

namespace {

using sae::lm::Compute;
using sae::lm::MatmulRunner;
using sae::lm::PackedWeights;

struct Flags {
  std::string model, hook = "blocks.8.hook_resid_post", compute = "f32";
  int contexts = 8, context = 256, rounds = 7, threads = 0;
  bool json = false;
};

template <class Function>
double Seconds(const Function& function) {
  const auto start = std::chrono::steady_clock::now();
  function();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

/// VmHWM: getrusage's maximum would count what the parent had when it forked.
long PeakKib() {
  std::ifstream file("/proc/self/status");
  for (std::string line; std::getline(file, line);) {
    if (line.rfind("VmHWM:", 0) == 0) return std::stol(line.substr(6));
  }
  return 0;
}

double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  return values[values.size() / 2];
}

/// 64-byte aligned floats, all ones.
struct Buffer {
  explicit Buffer(std::int64_t n)
      : data(static_cast<float*>(
            std::aligned_alloc(64, static_cast<std::size_t>((n * 4 + 63) / 64 * 64)))) {
    std::fill(data, data + n, 1.0F);
  }
  ~Buffer() { std::free(data); }
  Buffer(const Buffer&) = delete;
  Buffer& operator=(const Buffer&) = delete;
  float* data;
};

/// The four products of a block on `rows` tokens, in float32: plain dnnl_sgemm on the whole, and
/// weights packed with a chunk of rows a thread. The better of the two is the yardstick.
class GemmYardstick {
 public:
  GemmYardstick(const sae::lm::LlamaConfig& c, std::int64_t rows, int threads)
      : shapes_{{c.q_width() + 2 * c.kv_width(), c.d},
                {c.d, c.q_width()},
                {2 * c.mlp, c.d},
                {c.d, c.mlp}},
        rows_(rows),
        threads_(threads),
        wide_(std::max(2 * c.mlp, c.q_width() + 2 * c.kv_width())),
        in_(rows * std::max({c.d, c.mlp, c.q_width()})),
        out_(rows * wide_) {
    for (const auto& [out, in] : shapes_) {
      plain_.emplace_back(static_cast<std::size_t>(out * in), 0.5F);
      packed_.push_back(*PackedWeights::Create(plain_.back(), out, in, Compute::kF32));
      flops_ += 2.0 * static_cast<double>(rows * out * in);
    }
  }
  double flops() const { return flops_; }
  double Sgemm() {
    return Seconds([&] {
      for (std::size_t i = 0; i < shapes_.size(); ++i) {
        const auto [out, in] = shapes_[i];
        (void)sae::lm::Sgemm(true, rows_, out, in, in_.data, in, plain_[i].data(), in, out_.data,
                             out);
      }
    });
  }
  double Packed() {
    return Seconds([&] {
#pragma omp parallel for num_threads(threads_) schedule(dynamic)
      for (std::int64_t begin = 0; begin < rows_; begin += 256) {
        const std::int64_t count = std::min<std::int64_t>(256, rows_ - begin);
        for (std::size_t i = 0; i < shapes_.size(); ++i) {
          (void)Runner().Run(packed_[i], in_.data + begin * shapes_[i].second, count,
                             out_.data + begin * shapes_[i].first);
        }
      }
    });
  }

 private:
  /// A runner belongs to a thread.
  static MatmulRunner& Runner() {
    thread_local MatmulRunner runner;
    return runner;
  }
  std::vector<std::pair<std::int64_t, std::int64_t>> shapes_;  ///< out, in
  std::int64_t rows_;
  int threads_;
  std::int64_t wide_;
  Buffer in_, out_;
  std::vector<std::vector<float>> plain_;
  std::vector<PackedWeights> packed_;
  double flops_ = 0;
};

struct Result {
  double tokens_per_second, sgemm, packed, share;
  long peak_kib;
};

absl::StatusOr<Result> Measure(const Flags& flags) {
  SAE_ASSIGN_OR_RETURN(const auto gguf, sae::lm::GgufReader::Open(flags.model));
  SAE_ASSIGN_OR_RETURN(const auto config, sae::lm::ReadLlamaConfig(*gguf));
  SAE_ASSIGN_OR_RETURN(const auto hook,
                       sae::lm::ParseHook(flags.hook, static_cast<int>(config.blocks)));
  SAE_ASSIGN_OR_RETURN(const auto compute, sae::lm::ParseCompute(flags.compute));
  const std::int64_t blocks = hook.point == sae::lm::HookPoint::kEmbed ? 0 : hook.block + 1;
  SAE_ASSIGN_OR_RETURN(const auto model,
                       sae::lm::LoadLlama(*gguf, {compute, flags.threads, blocks}));
  sae::lm::TokenBatch batch;
  sae::Random random(1);
  for (int i = 0; i < flags.contexts; ++i) {
    batch.StartSpan();
    for (int t = 0; t < flags.context; ++t) {
      batch.tokens.push_back(
          static_cast<std::int32_t>(random.Below(static_cast<std::uint64_t>(config.vocabulary))));
    }
  }
  std::vector<float> out(static_cast<std::size_t>(batch.size() * config.d));
  SAE_RETURN_IF_ERROR(model->Run(batch, {hook}, {out}));
  const long peak_kib = PeakKib();  // before the yardstick takes memory of its own

  GemmYardstick yardstick(config, batch.size(), flags.threads);
  std::vector<double> forward, sgemm, packed;
  absl::Status status;
  for (int round = 0; round <= flags.rounds; ++round) {
    const double f = Seconds([&] { status.Update(model->Run(batch, {hook}, {out})); });
    const double s = yardstick.Sgemm();
    const double p = yardstick.Packed();
    if (round == 0) continue;  // warm-up
    forward.push_back(f);
    sgemm.push_back(yardstick.flops() / s);
    packed.push_back(yardstick.flops() / p);
  }
  SAE_RETURN_IF_ERROR(status);
  Result r{};
  r.tokens_per_second = static_cast<double>(batch.size()) / Median(forward);
  r.sgemm = Median(sgemm);
  r.packed = Median(packed);
  const double rate = yardstick.flops() * static_cast<double>(blocks) / Median(forward);
  r.share = rate / std::max(r.sgemm, r.packed);
  r.peak_kib = peak_kib;
  return r;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app{"Speed of the language model's forward pass up to a hook"};
  Flags flags;
  app.add_option("--model", flags.model, "GGUF file")->required();
  app.add_option("--hook", flags.hook)->capture_default_str();
  app.add_option("--compute", flags.compute, "f32 or bf16")->capture_default_str();
  app.add_option("--contexts", flags.contexts, "sequences of a batch")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--context", flags.context, "tokens of a sequence")
      ->capture_default_str()
      ->check(CLI::PositiveNumber);
  app.add_option("--rounds", flags.rounds)->capture_default_str()->check(CLI::PositiveNumber);
  app.add_option("--threads", flags.threads, "default: one a core")->check(CLI::NonNegativeNumber);
  app.add_flag("--json", flags.json, "one JSON line");
  CLI11_PARSE(app, argc, argv);
  if (flags.threads == 0)
    flags.threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  const auto r = Measure(flags);
  if (!r.ok()) {
    std::fprintf(stderr, "harvest_bench: %s\n", sae::Message(r.status()).c_str());
    return 1;
  }
  const double mib = static_cast<double>(r->peak_kib) / 1024;
  if (flags.json) {
    std::printf(
        "{\"tokens_per_second\":%.1f,\"sgemm_gflops\":%.1f,\"packed_gflops\":%.1f,\"share\":%.3f,"
        "\"peak_mib\":%.0f}\n",
        r->tokens_per_second, r->sgemm / 1e9, r->packed / 1e9, r->share, mib);
    return 0;
  }
  std::printf("%s, %s, %d x %d tokens, %d threads, median of %d rounds\n", flags.hook.c_str(),
              flags.compute.c_str(), flags.contexts, flags.context, flags.threads, flags.rounds);
  std::printf("  forward        %8.0f tokens/s\n", r->tokens_per_second);
  std::printf("  float32 GEMM   %8.0f GFLOP/s (sgemm %.0f, packed weights %.0f)\n",
              std::max(r->sgemm, r->packed) / 1e9, r->sgemm / 1e9, r->packed / 1e9);
  std::printf(
      "  share of it    %8.2f (matrix work of the forward pass alone; attention and the rest are "
      "overhead)\n",
      r->share);
  std::printf("  peak memory    %8.0f MiB\n", mib);
  return 0;
}
