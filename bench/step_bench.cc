// Time of one training step by phase, and its ratio to the encoder's product alone in the engine's
// own chunk shape, measured in turns in one run. `--l0` sets the biases of relu_l1 so that a latent
// fires with that mean; `--dense` forces one path, which shows where they cross.
//   step_bench --latents 2048 --batch 2048 --k 32 --threads 2
//   step_bench --architecture relu_l1 --latents 2048 --batch 2048 --l0 100 --dense on

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <map>
#include <string>
#include <vector>

#include "sae/base/random.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/gemm.h"
#include "sae/train/engine/engine.h"

namespace {

using sae::ThreadPool;

struct Options {
  std::string architecture = "topk";
  std::int64_t latents = 2048, width = 576, k = 32, batch = 2048, ranks = 1, repeats = 9;
  int threads = 2;
  double l0 = 32, dead = 0;
  std::string dense = "auto";
};

double Milliseconds(const std::function<void()>& work) {
  const auto start = std::chrono::steady_clock::now();
  work();
  return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start)
      .count();
}

double Median(std::vector<double> v) {
  std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
  return v[v.size() / 2];
}

std::vector<float> Rows(std::int64_t count, std::int64_t d) {
  sae::Random random(1);
  std::vector<float> out(static_cast<std::size_t>(count * d));
  for (float& v : out) v = static_cast<float>(random.Normal());
  return out;
}

// The b for which a standard normal exceeds b with probability p, by bisection.
double NormalQuantile(double p) {
  double low = -8, high = 8;
  for (int i = 0; i < 60; ++i) {
    const double middle = (low + high) / 2;
    (0.5 * std::erfc(middle / std::sqrt(2.0)) > p ? low : high) = middle;
  }
  return low;
}

sae::config::TrialConfig Config(const Options& o) {
  sae::config::TrialConfig c;
  c.ranks = o.ranks;
  c.sae.architecture = o.architecture;
  c.sae.latents = o.latents;
  c.sae.k = o.k;
  c.sae.l1_coefficient = 0.01;
  if (o.dead == 0) c.sae.aux_k = 0;
  c.train.batch = o.batch;
  c.train.tokens = 1e9;
  c.train.lr = 1e-9;  // the same work every step
  return c;
}

// Biases for the wanted L0, counters for the wanted share of dead latents.
void Arrange(const Options& o, sae::train::Engine<float>& engine) {
  const double bias = -NormalQuantile(o.l0 / static_cast<double>(o.latents)) /
                      std::sqrt(static_cast<double>(o.width));
  const sae::model::State state = engine.state();
  for (const auto& t : state.tensors) {
    if (t.name == "b_enc" && o.architecture == "relu_l1") {
      std::fill_n(static_cast<float*>(t.data), state.count, static_cast<float>(bias));
    }
    if (t.name == "b_enc" && o.dead > 0) {
      std::fill_n(static_cast<float*>(t.data),
                  static_cast<std::int64_t>(o.dead * static_cast<double>(state.count)), -1.0F);
    }
    if (t.name == "tokens_since_fired" && o.dead > 0) {
      std::fill_n(static_cast<std::int64_t*>(t.data),
                  static_cast<std::int64_t>(o.dead * static_cast<double>(state.count)),
                  std::int64_t{1} << 40);
    }
  }
}

struct Base {
  double chunked = 0, whole = 0;
};

// The product alone, over all latents with all threads of the bench.
Base Product(const Options& o, const std::vector<float>& x, const std::vector<float>& w,
             std::vector<float>& z, ThreadPool& pool,
             sae::kernels::EncodeWorkspace<float>& workspace) {
  const std::vector<float> c(static_cast<std::size_t>(o.latents), 0.0F);
  sae::kernels::EncodeInput<float> in;
  in.x = x.data();
  in.tokens = o.batch;
  in.d = o.width;
  in.w = w.data();
  in.c = c.data();
  in.latents = o.latents;
  Base base;
  base.chunked = Milliseconds([&] {
    sae::kernels::EncodeChunks<float>(in, &workspace, pool,
                                      [](const sae::kernels::Chunk<float>&) {});
  });
  base.whole = Milliseconds([&] {
    sae::kernels::Gemm(o.batch, o.latents, o.width, x.data(), o.width, w.data(), o.width, z.data(),
                       o.latents, pool);
  });
  return base;
}

absl::Status Measure(const Options& o) {
  const std::vector<float> x = Rows(o.batch, o.width);
  const std::vector<float> w = Rows(o.latents, o.width);
  std::vector<float> z(static_cast<std::size_t>(o.batch * o.latents));
  ThreadPool all(o.threads);
  sae::kernels::EncodeWorkspace<float> workspace;
  return sae::comm::RunInProcess(
      static_cast<int>(o.ranks),
      [&](sae::comm::Communicator& c) {
        ThreadPool pool(std::max(1, o.threads / static_cast<int>(o.ranks)));
        SAE_ASSIGN_OR_RETURN(auto engine,
                             sae::train::CreateEngine<float>(Config(o), o.width, c, pool));
        const double initialise = Milliseconds([&] { (void)engine->Initialise(x); });
        Arrange(o, *engine);
        if (o.dense != "auto") engine->set_dense_density(o.dense == "on" ? 0 : 2);
        std::map<std::string, std::vector<double>> times;
        for (int i = 0; i < o.repeats + 2; ++i) {
          if (c.rank() == 0) {
            const Base base = Product(o, x, w, z, all, workspace);
            times["gemm chunked"].push_back(base.chunked);
            times["gemm whole"].push_back(base.whole);
          }
          SAE_RETURN_IF_ERROR(c.Barrier());
          absl::Status status;
          times["step"].push_back(Milliseconds([&] { status = engine->Step(x); }));
          SAE_RETURN_IF_ERROR(status);
          SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
          for (const auto& [name, value] : metrics) times[name].push_back(value);
          if (i < 2) times.clear();  // warm-up
        }
        if (c.rank() != 0) return absl::OkStatus();
        std::printf(
            "%s n=%ld d=%ld k=%ld B=%ld ranks=%ld threads=%d: L0 %.1f, dead %.3f, dense %g, "
            "initialise %.0f ms\n",
            o.architecture.c_str(), static_cast<long>(o.latents), static_cast<long>(o.width),
            static_cast<long>(o.k), static_cast<long>(o.batch), static_cast<long>(o.ranks),
            o.threads, times["train.l0"].back(), times["train.dead_fraction"].back(),
            times.contains("dense_step") ? times["dense_step"].back() : 0.0, initialise);
        for (const auto& [name, values] : times) {
          if (name.starts_with("ms.") || name == "step" || name.starts_with("gemm")) {
            std::printf("  %-14s %8.2f ms\n", name.c_str(), Median(values));
          }
        }
        const double step = Median(times["step"]);
        std::printf("  step / gemm chunked %.2f, / gemm whole %.2f; %.0f tokens/s\n",
                    step / Median(times["gemm chunked"]), step / Median(times["gemm whole"]),
                    1e3 * static_cast<double>(o.batch) / step);
        return absl::OkStatus();
      },
      absl::Minutes(10));
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Times one training step against the encoder's product");
  app.add_option("--architecture", o.architecture, "topk | relu_l1");
  app.add_option("--latents", o.latents);
  app.add_option("--width", o.width);
  app.add_option("--k", o.k);
  app.add_option("--batch", o.batch);
  app.add_option("--ranks", o.ranks, "in-process ranks, which share the threads");
  app.add_option("--threads", o.threads, "in all");
  app.add_option("--l0", o.l0, "relu_l1: mean of firing latents");
  app.add_option("--dead", o.dead, "topk: share of dead latents, with AuxK at its default k");
  app.add_option("--dense", o.dense, "relu_l1: auto | on | off");
  app.add_option("--repeats", o.repeats);
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = Measure(o);
  if (!status.ok()) std::fprintf(stderr, "step_bench: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
