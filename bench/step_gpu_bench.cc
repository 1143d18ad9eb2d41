// Time of a whole training step on a GPU, its tokens a second, what the cost model of `saeloom plan` says of it,
// and its ratio to the encoder's product alone, as the step makes it (cuBLASLt, bf16, in its chunks), in turns in one
// run: steps follow each other, each with its rows from the host. Learning rates are so small that every step does
// the same work; relu_l1 and gated begin with a bias for an L0 of about k. Without a GPU it says so and exits with 3.
//   step_gpu_bench                               every architecture at its shapes, bf16 products
//   step_gpu_bench --only topk --selection float32 --shape 131072,768,32,4096

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "bench/timing.h"
#include "sae/config/cost_model.h"
#include "sae/kernels/cuda_runtime.h"
#include "sae/kernels/device/encode.h"
#include "sae/kernels/device_library.h"
#include "sae/train/device/device_engine.h"

namespace {

using sae::bench::Measure;
using sae::bench::Median;
using sae::bench::Normals;

struct Shape {
  std::int64_t latents = 0, width = 0, k = 0, batch = 0;
};

struct Options {
  std::vector<std::string> only, shapes;
  std::string selection = "bf16";
  int repeats = 5, steps = 6;
};

sae::config::TrialConfig Config(const Options& o, const std::string& architecture, const Shape& s) {
  sae::config::TrialConfig c;
  c.sae.architecture = architecture;
  c.sae.latents = s.latents;
  const bool ranked =
      architecture == "topk" || architecture == "batchtopk" || architecture == "matryoshka";
  if (ranked) c.sae.k = s.k;
  if (ranked) c.sae.aux_k = 0;
  if (architecture == "relu_l1" || architecture == "gated") c.sae.l1_coefficient = 0.01;
  if (architecture == "jumprelu") {
    c.sae.target_l0 = static_cast<double>(s.k);
    c.sae.threshold_lr = 1e-9;
  }
  c.train.batch = s.batch;
  c.train.tokens = 1e9;
  c.train.lr = 1e-9;
  c.train.sparsity_warmup_steps = 0;
  c.train.selection = o.selection;
  return c;
}

// The encoder's product of all tokens, in bf16, in the chunks of a step, into one buffer.
class Product {
 public:
  static constexpr std::int64_t kTokens = sae::kernels::device::EncodeSchedule{}.group_tokens;
  static constexpr std::int64_t kLatents = sae::kernels::device::EncodeSchedule{}.chunk_columns;

  absl::Status Create(sae::DeviceRuntime& runtime, void* stream, const Shape& shape) {
    runtime_ = &runtime;
    stream_ = stream;
    shape_ = shape;
    SAE_RETURN_IF_ERROR(sae::train::Launched(sae::kernels::cuda::CreateDeviceLibrary(&library_),
                                             "device library"));
    SAE_RETURN_IF_ERROR(x_.Create(runtime, shape.batch * shape.width, "x"));
    SAE_RETURN_IF_ERROR(w_.Create(runtime, shape.latents * shape.width, "w"));
    SAE_RETURN_IF_ERROR(runtime.MemsetAsync(x_.data(), 0x3c, x_.bytes(), stream));
    SAE_RETURN_IF_ERROR(runtime.MemsetAsync(w_.data(), 0x3c, w_.bytes(), stream));
    return z_.Create(runtime, kTokens * kLatents, "products");
  }
  ~Product() { sae::kernels::cuda::DestroyDeviceLibrary(library_); }

  absl::Status Run() {
    for (std::int64_t first = 0; first < shape_.latents; first += kLatents) {
      for (std::int64_t token = 0; token < shape_.batch; token += kTokens) {
        sae::kernels::cuda::GemmParams<sae::kernels::bf16> p;
        p.m = std::min(kTokens, shape_.batch - token);
        p.n = std::min(kLatents, shape_.latents - first);
        p.k = p.lda = p.ldb = shape_.width;
        p.a = x_.data() + token * shape_.width;
        p.b = w_.data() + first * shape_.width;
        p.c = z_.data();
        p.ldc = p.n;
        SAE_RETURN_IF_ERROR(sae::train::Launched(
            sae::kernels::cuda::GemmBf16(library_, p, stream_), "GemmBf16"));
      }
    }
    return runtime_->Synchronize(stream_);
  }

 private:
  sae::DeviceRuntime* runtime_ = nullptr;
  void* stream_ = nullptr;
  Shape shape_;
  sae::kernels::cuda::DeviceLibrary* library_ = nullptr;
  sae::train::DeviceBuffer<std::uint16_t> x_, w_;
  sae::train::DeviceBuffer<float> z_;
};

// NaN for a device that the model does not know.
double PlannedMs(sae::config::TrialConfig config, const Shape& s, const std::string& device) {
  config.sae.k = s.k;  // what is active, whoever decides it
  for (const char* known : {"H100", "H200"}) {
    if (device.find(known) == std::string::npos) continue;
    const auto cluster = sae::config::ParseCluster(known);
    if (!cluster.ok()) break;
    const auto plan = sae::config::PlanStep(config, s.width, *cluster);
    if (plan.ok()) return plan->step_ms;
  }
  return std::nan("");
}

absl::Status MeasureOne(const Options& o, const std::string& architecture, const Shape& s,
                        sae::DeviceRuntime& runtime, void* stream) {
  const auto self = sae::comm::CreateSelf();
  sae::ThreadPool pool(static_cast<int>(std::max(2U, std::thread::hardware_concurrency())));
  sae::train::DeviceParts parts;
  parts.runtime = &runtime;
  parts.stream = stream;
  const sae::config::TrialConfig config = Config(o, architecture, s);
  SAE_ASSIGN_OR_RETURN(const auto engine, sae::train::DeviceEngine::Create(config, s.width, s.width, *self,
                                                                           pool, parts));
  const std::vector<float> rows = Normals(s.batch * s.width);
  // Few rows are enough: what depends on them does not matter here.
  SAE_RETURN_IF_ERROR(engine->Initialise(std::span(rows).first(static_cast<std::size_t>(256 * s.width))));
  if (architecture == "relu_l1" || architecture == "gated") {
    for (const auto& t : engine->state().tensors) {
      if (t.name == "b_enc")
        std::fill_n(static_cast<float*>(t.data), s.latents,
                    static_cast<float>(sae::bench::BiasFor(static_cast<double>(s.k), s.latents, s.width)));
    }
    SAE_RETURN_IF_ERROR(engine->StateLoaded());
  }
  Product product;
  SAE_RETURN_IF_ERROR(product.Create(runtime, stream, s));
  absl::Status status;
  const auto run = [&](int steps) {
    for (int i = 0; i < steps; ++i) status.Update(engine->Step(rows));
    status.Update(engine->Settle());
  };
  run(5);  // sizes settle, the graph is made
  status.Update(product.Run());
  std::vector<double> steps, products;
  for (int i = 0; i < o.repeats && status.ok(); ++i) {
    products.push_back(Measure([&] { status.Update(product.Run()); }).wall);
    steps.push_back(Measure([&] { run(o.steps); }).wall / o.steps);
  }
  SAE_RETURN_IF_ERROR(status);
  const double step = Median(steps), gemm = Median(products);
  const double tokens = static_cast<double>(s.batch);
  const double flops = 2 * tokens * static_cast<double>(s.latents * s.width);
  std::printf("%-11s %9lld %6lld %4lld %7lld %9.2f %9.2f %9.2f %7.2f %11.0f %9.0f\n",
              architecture.c_str(), static_cast<long long>(s.latents),
              static_cast<long long>(s.width), static_cast<long long>(s.k),
              static_cast<long long>(s.batch), step, PlannedMs(config, s, runtime.DeviceName()), gemm, step / gemm,
              tokens / step * 1e3, flops / gemm / 1e9);
  return absl::OkStatus();
}

Shape Parse(const std::string& text) {
  Shape s;
  long long n = 0, d = 0, k = 0, b = 0;
  if (std::sscanf(text.c_str(), "%lld,%lld,%lld,%lld", &n, &d, &k, &b) != 4)
    throw CLI::ValidationError("--shape", text + " is not latents,width,k,batch");
  s.latents = n;
  s.width = d;
  s.k = k;
  s.batch = b;
  return s;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Time of a training step on a GPU");
  app.add_option("--only", o.only, "architectures");
  app.add_option("--shape", o.shapes, "latents,width,k,batch; repeatable");
  app.add_option("--selection", o.selection, "bf16 | float32 | certified");
  app.add_option("--repeats", o.repeats, "measurements of each")->check(CLI::Range(1, 1000));
  app.add_option("--steps", o.steps, "steps of a measurement")->check(CLI::Range(1, 1000));
  CLI11_PARSE(app, argc, argv);
  const bool standard = o.shapes.empty() && o.only.empty();
  if (o.only.empty()) o.only = {"topk", "batchtopk", "jumprelu", "gated", "relu_l1", "matryoshka"};
  if (o.shapes.empty()) o.shapes = {"32768,768,32,8192"};
  auto runtime = sae::kernels::CreateCudaRuntime(0);
  if (!runtime.ok()) {
    std::fprintf(stderr, "step_gpu_bench: %s\n", std::string(runtime.status().message()).c_str());
    return 3;
  }
  const auto stream = (*runtime)->CreateStream();
  if (!stream.ok()) return 1;
  std::printf("%s, products in %s\n", (*runtime)->DeviceName().c_str(), o.selection.c_str());
  std::printf("%-11s %9s %6s %4s %7s %9s %9s %9s %7s %11s %9s\n", "", "latents", "width", "k", "batch",
              "step ms", "plan ms", "gemm ms", "ratio", "tokens/s", "GFLOP/s");
  std::fflush(stdout);
  int failures = 0;
  const auto measure = [&](const std::string& architecture, const std::string& shape) {
    const absl::Status status = MeasureOne(o, architecture, Parse(shape), **runtime, *stream);
    if (!status.ok()) {
      std::printf("%-11s %s\n", architecture.c_str(), status.ToString().c_str());
      ++failures;
    }
    std::fflush(stdout);
  };
  for (const std::string& shape : o.shapes) {
    for (const std::string& architecture : o.only) measure(architecture, shape);
  }
  if (standard) {
    for (const char* shape : {"131072,768,32,16384", "65536,2304,32,16384"}) measure("topk", shape);
  }
  (*runtime)->DestroyStream(*stream);
  return failures == 0 ? 0 : 1;
}
