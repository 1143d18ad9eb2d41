// What formats of Adam's moments cost in quality: trains TopK and JumpReLU on a store from the same
// start on the same rows, and prints held-out FVU and L0 of each format beside float32's. To
// nearest is there for comparison alone: `train.moments` always rounds stochastically.
//   moments_bench --store runs/demo/store --latents 2048 --tokens 1e6 --batch 1024

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "sae/data/store_reader.h"
#include "sae/data/store_source.h"
#include "sae/train/engine/sae_engine.h"

namespace {

namespace kernels = sae::kernels;
using sae::train::SaeEngine;

struct Options {
  std::string store;
  std::int64_t latents = 2048, batch = 1024, k = 32, seeds = 1;
  double tokens = 1e6;
  int threads = 2;
};

struct Format {
  const char* name;
  const char* moments;
  bool nearest;
};
constexpr Format kFormats[] = {{"f32", "f32", false},
                               {"bf16", "bf16", false},
                               {"bf16 to nearest", "bf16", true},
                               {"int8", "int8", false},
                               {"int8 to nearest", "int8", true}};

sae::config::TrialConfig ConfigOf(const Options& o, const char* architecture, const Format& format,
                                  std::int64_t seed) {
  sae::config::TrialConfig c;
  c.sae.architecture = architecture;
  c.sae.latents = o.latents;
  if (c.sae.architecture == "topk") {
    c.sae.k = o.k;
  } else {
    c.sae.target_l0 = static_cast<double>(o.k);
  }
  c.train.tokens = o.tokens;
  c.train.batch = o.batch;
  c.train.seed = seed;
  c.train.moments = format.moments;
  return c;
}

struct Result {
  double fvu = 0, l0 = 0, dead = 0;
};

absl::StatusOr<Result> Evaluate(const Options& o, const sae::data::ActivationStore& store,
                                sae::train::Engine<float>* engine) {
  const auto& mean = store.manifest().mean;
  const std::vector<float> centre(mean.begin(), mean.end());
  engine->BeginEvaluation(centre);
  const std::int64_t rows = store.rows(sae::data::Split::kHeldout);
  std::vector<float> part;
  for (std::int64_t first = 0; first < rows; first += o.batch) {
    part.resize(static_cast<std::size_t>(std::min(o.batch, rows - first) * store.d()));
    SAE_RETURN_IF_ERROR(store.ReadRows(sae::data::Split::kHeldout, first, part));
    SAE_RETURN_IF_ERROR(engine->EvaluateBatch(part));
  }
  SAE_ASSIGN_OR_RETURN(const auto values, engine->FinishEvaluation());
  return Result{values.at("heldout.fvu"), values.at("heldout.l0"),
                values.at("heldout.dead_fraction")};
}

absl::StatusOr<Result> Train(const Options& o,
                             const std::shared_ptr<const sae::data::ActivationStore>& store,
                             const char* architecture, const Format& format, std::int64_t seed) {
  const sae::config::TrialConfig given = ConfigOf(o, architecture, format, seed);
  SAE_RETURN_IF_ERROR(sae::config::Validate(given, store->d()));
  const sae::config::TrialConfig config = sae::config::Resolve(given, store->d());
  const auto self = sae::comm::CreateSelf();
  sae::ThreadPool pool(o.threads);
  SAE_ASSIGN_OR_RETURN(const auto engine,
                       sae::train::CreateEngine<float>(config, store->d(), *self, pool));
  if (format.nearest) {
    dynamic_cast<SaeEngine<float>&>(*engine).set_moment_rounding(kernels::MomentRounding::kNearest);
  }
  sae::data::StoreSource source(store, 0);
  const std::int64_t sample =
      std::min<std::int64_t>(32768, store->rows(sae::data::Split::kTraining));
  std::vector<float> rows(static_cast<std::size_t>(sample * store->d()));
  SAE_RETURN_IF_ERROR(source.Next(rows));
  SAE_RETURN_IF_ERROR(engine->Initialise(rows));
  SAE_RETURN_IF_ERROR(source.Seek(0));
  rows.resize(static_cast<std::size_t>(o.batch * store->d()));
  for (std::int64_t t = 0; t < sae::config::TotalSteps(config); ++t) {
    SAE_RETURN_IF_ERROR(source.Next(rows));
    SAE_RETURN_IF_ERROR(engine->Step(rows));
  }
  return Evaluate(o, *store, engine.get());
}

absl::Status Run(const Options& o) {
  SAE_ASSIGN_OR_RETURN(std::unique_ptr<sae::data::ActivationStore> opened,
                       sae::data::ActivationStore::Open(o.store));
  const std::shared_ptr<const sae::data::ActivationStore> store = std::move(opened);
  std::printf("n=%lld d=%lld, %g tokens, batch %lld, k or target L0 %lld, seeds 0..%lld\n",
              static_cast<long long>(o.latents), static_cast<long long>(store->d()), o.tokens,
              static_cast<long long>(o.batch), static_cast<long long>(o.k),
              static_cast<long long>(o.seeds - 1));
  std::printf("%-10s %-16s %8s %9s %8s %6s\n", "arch.", "moments", "FVU", "to f32", "L0", "dead");
  for (const char* architecture : {"topk", "jumprelu"}) {
    double base = 0;
    for (const Format& format : kFormats) {
      Result mean;
      for (std::int64_t seed = 0; seed < o.seeds; ++seed) {
        SAE_ASSIGN_OR_RETURN(const Result r, Train(o, store, architecture, format, seed));
        const double share = 1 / static_cast<double>(o.seeds);
        mean.fvu += share * r.fvu;
        mean.l0 += share * r.l0;
        mean.dead += share * r.dead;
      }
      if (base == 0) base = mean.fvu;
      std::printf("%-10s %-16s %8.4f %+8.2f%% %8.2f %5.1f%%\n", architecture, format.name, mean.fvu,
                  100 * (mean.fvu / base - 1), mean.l0, 100 * mean.dead);
      std::fflush(stdout);
    }
  }
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Held-out error of every format of Adam's moments.");
  app.add_option("--store", o.store)->required();
  app.add_option("--latents", o.latents)->check(CLI::PositiveNumber);
  app.add_option("--tokens", o.tokens)->check(CLI::PositiveNumber);
  app.add_option("--batch", o.batch)->check(CLI::PositiveNumber);
  app.add_option("--k", o.k)->check(CLI::PositiveNumber);
  app.add_option("--seeds", o.seeds)->check(CLI::PositiveNumber);
  app.add_option("--threads", o.threads)->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  if (const absl::Status status = Run(o); !status.ok()) {
    std::fprintf(stderr, "moments_bench: %s\n", std::string(status.message()).c_str());
    return 1;
  }
  return 0;
}
