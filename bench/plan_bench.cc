// The cost model of `saeloom plan` against measured steps of the CPU engine. Three ceilings of this machine are
// measured first, each by itself: the encoder's product in chunks, rows gathered at random, rows streamed through
// Adam. Then the model, with those ceilings and 6% for selection, predicts steps of several shapes, which are measured too.
//   plan_bench                    every shape; prints predicted / measured of each
//   plan_bench --threads 1

#include <CLI/CLI.hpp>
#include <cstdio>
#include <string>
#include <vector>

#include "bench/timing.h"
#include "sae/base/random.h"
#include "sae/config/cost_model.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/row_ops.h"
#include "sae/train/engine/engine.h"

namespace {

using sae::ThreadPool;
using sae::bench::Measure;
using sae::bench::Median;
using sae::bench::Normals;

std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }

template <class Work>
double MedianSeconds(int repeats, const Work& work) {
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) times.push_back(Measure(work).wall);
  return Median(times) / 1e3;
}

// FLOP/s of x W^T with 4096 tokens, 8192 latents of width 576.
double ProductRate(ThreadPool& pool) {
  constexpr std::int64_t kTokens = 4096, kLatents = 8192, kWidth = 576;
  const auto x = Normals(kTokens * kWidth), w = Normals(kLatents * kWidth);
  const std::vector<float> c(Size(kLatents));
  sae::kernels::EncodeInput<float> in;
  in.x = x.data();
  in.tokens = kTokens;
  in.d = kWidth;
  in.w = w.data();
  in.c = c.data();
  in.latents = kLatents;
  sae::kernels::EncodeWorkspace<float> workspace;
  const double seconds = MedianSeconds(7, [&] {
    sae::kernels::EncodeChunks<float>(in, &workspace, pool, [](const auto&) {});
  });
  return 2.0 * kTokens * kLatents * kWidth / seconds;
}

// Bytes/s of rows of 576 floats added at random out of 150 MB.
double GatherRate(ThreadPool& pool) {
  constexpr std::int64_t kRows = 65536, kWidth = 576, kReads = 131072;
  const auto rows = Normals(kRows * kWidth);
  sae::Random random(2);
  std::vector<const float*> order(Size(kReads));
  for (auto& row : order)
    row = rows.data() + static_cast<std::int64_t>(random.Uniform() * kRows) * kWidth;
  const double seconds = MedianSeconds(7, [&] {
    pool.ParallelFor(kReads / 32, [&](std::int64_t begin, std::int64_t end, int) {
      std::vector<float> sum(Size(kWidth));
      const std::vector<float> ones(32, 1.0F);
      for (std::int64_t i = begin; i < end; ++i) {
        const sae::kernels::RowList<float> list{32, ones.data(), order.data() + 32 * i};
        const sae::kernels::RowList<float> next{
            i + 1 < end ? 32 : 0, ones.data(), order.data() + 32 * (i + 1 < end ? i + 1 : i)};
        sae::kernels::AddRows(kWidth, list, next, sum.data());
      }
    });
  });
  return kReads * kWidth * 4.0 / seconds;
}

// Bytes/s of 32768 rows of 576 through Adam: weights and two moments, read and written.
double StreamRate(ThreadPool& pool) {
  constexpr std::int64_t kRows = 32768, kWidth = 576;
  auto w = Normals(kRows * kWidth), m = Normals(kRows * kWidth);
  std::vector<float> v(w.size(), 1.0F);
  const auto g = Normals(kWidth);
  const sae::kernels::Adam adam = sae::kernels::Adam::At(1, 1e-9, 0.9, 0.999, 1e-8);
  const double seconds = MedianSeconds(7, [&] {
    pool.ParallelFor(kRows, [&](std::int64_t begin, std::int64_t end, int) {
      for (std::int64_t i = begin; i < end; ++i) {
        const std::int64_t at = i * kWidth;
        sae::kernels::AdamRow(kWidth, adam, g.data(), w.data() + at, m.data() + at, v.data() + at);
      }
    });
  });
  return kRows * kWidth * 24.0 / seconds;
}

struct Shape {
  std::int64_t latents, width, k, batch;
};

absl::StatusOr<double> MeasuredMs(const sae::config::TrialConfig& config, std::int64_t width,
                                  ThreadPool& pool) {
  const auto self = sae::comm::CreateSelf();
  SAE_ASSIGN_OR_RETURN(const auto engine,
                       sae::train::CreateEngine<float>(config, width, *self, pool));
  const auto rows = Normals(config.train.batch * width);
  SAE_RETURN_IF_ERROR(engine->Initialise(rows));
  absl::Status status;
  for (int i = 0; i < 2; ++i) status.Update(engine->Step(rows));
  const double seconds = MedianSeconds(7, [&] { status.Update(engine->Step(rows)); });
  SAE_RETURN_IF_ERROR(status);
  return 1e3 * seconds;
}

sae::config::TrialConfig ConfigOf(const Shape& s) {
  sae::config::TrialConfig c;
  c.sae.architecture = "topk";
  c.sae.latents = s.latents;
  c.sae.k = s.k;
  c.sae.aux_k = 0;
  c.train.batch = s.batch;
  c.train.tokens = 1e9;
  c.train.lr = 1e-9;  // the same work every step
  return c;
}

}  // namespace

int main(int argc, char** argv) {
  int threads = 2;
  CLI::App app("The cost model against measured steps");
  app.add_option("--threads", threads, "of the engine");
  CLI11_PARSE(app, argc, argv);
  ThreadPool pool(threads);
  sae::config::Cluster cluster;
  cluster.hardware.name = "CPU";
  cluster.hardware.product = ProductRate(pool);
  cluster.hardware.gather = GatherRate(pool);
  cluster.hardware.memory = StreamRate(pool);
  cluster.hardware.selection = 0.06;  // bench/README.md: of a TopK step
  std::printf("%d threads: product %.0f GFLOP/s, rows gathered %.1f GB/s, rows streamed %.1f GB/s\n",
              threads, cluster.hardware.product / 1e9, cluster.hardware.gather / 1e9,
              cluster.hardware.memory / 1e9);
  std::printf("%8s %6s %4s %6s %12s %12s %7s\n", "latents", "width", "k", "batch", "predicted ms",
              "measured ms", "ratio");
  for (const Shape& s : {Shape{4096, 576, 32, 2048}, Shape{8192, 768, 16, 2048},
                         Shape{16384, 576, 32, 4096}, Shape{16384, 576, 64, 1024},
                         Shape{32768, 768, 64, 2048}, Shape{65536, 256, 32, 2048}}) {
    const sae::config::TrialConfig config = ConfigOf(s);
    const auto plan = sae::config::PlanStep(config, s.width, cluster);
    const auto measured = MeasuredMs(config, s.width, pool);
    if (!plan.ok() || !measured.ok()) {
      std::fprintf(stderr, "%s %s\n", plan.status().ToString().c_str(),
                   measured.status().ToString().c_str());
      return 1;
    }
    std::printf("%8lld %6lld %4lld %6lld %12.1f %12.1f %7.2f\n",
                static_cast<long long>(s.latents), static_cast<long long>(s.width),
                static_cast<long long>(s.k), static_cast<long long>(s.batch), plan->step_ms,
                *measured, plan->step_ms / *measured);
  }
}
