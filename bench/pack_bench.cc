// Trials of a sweep in one gang against the same trials one after the other, in turns inside one run: TopK that
// differ in k and lr, over one bf16 store of Gaussian rows that it writes to a scratch folder. Prints milliseconds
// a trial and step, the ratio, and what of a step the gang shares at most: reading and converting the batch, and
// the copy of its rows (certified: their rounding, too).
#include <CLI/CLI.hpp>

#include <cstdio>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <unistd.h>
#include <vector>

#include "bench/timing.h"
#include "sae/base/check.h"
#include "sae/base/random.h"
#include "sae/data/store_reader.h"
#include "sae/data/store_source.h"
#include "sae/data/store_writer.h"
#include "sae/train/engine/engine.h"
#include "sae/train/gang.h"

namespace sae::bench {
namespace {

struct Flags {
  int trials = 8, threads = 2, steps = 4, rounds = 5;
  std::int64_t latents = 8192, d = 576, batch = 4096;
  bool certified = false, json = false;
  std::string scratch = std::filesystem::temp_directory_path();
};

std::int64_t KOf(int trial) { return 16 + 8 * (trial / 2); }

config::TrialConfig ConfigOf(const Flags& flags, int trial) {
  config::TrialConfig c;
  c.sae.architecture = "topk";
  c.sae.latents = flags.latents;
  c.sae.k = KOf(trial);
  c.sae.aux_k = 0;
  c.train.batch = flags.batch;
  c.train.tokens = 1e6 * static_cast<double>(flags.batch);
  c.train.lr = trial % 2 == 0 ? 1e-4 : 3e-4;
  c.train.seed = trial;
  c.train.selection = flags.certified ? "certified" : "float32";
  return c;
}

std::shared_ptr<const data::ActivationStore> MakeStore(const Flags& flags, const std::string& folder) {
  data::StoreWriterOptions options;
  options.directory = folder;
  options.d = flags.d;
  options.heldout_fraction = 0;
  auto writer = data::StoreWriter::Create(options).value();
  std::vector<float> rows(static_cast<std::size_t>(flags.batch * flags.d));
  Random random(1);
  for (int b = 0; b < 4; ++b) {
    for (float& v : rows) v = static_cast<float>(random.Normal());
    data::StoreRows part;
    part.activations = rows;
    SAE_CHECK(writer->Append(part).ok());
  }
  SAE_CHECK(writer->Finish().ok());
  return data::ActivationStore::Open(folder).value();
}

struct Round {
  Cost gang, alone, reading;
};

class Bench {
 public:
  Bench(const Flags& flags, std::shared_ptr<const data::ActivationStore> store)
      : flags_(flags), pool_(flags.threads), self_(comm::CreateSelf()), source_(std::move(store), 0) {
    std::vector<float> room;
    const auto sample = source_.View(flags.batch, &room).value();
    for (int t = 0; t < flags.trials; ++t) {
      engines_.push_back(train::CreateEngine<float>(ConfigOf(flags, t), flags.d, *self_, pool_).value());
      SAE_CHECK(engines_.back()->Initialise(sample).ok());
    }
  }

  Round Run() {
    Round r;
    r.gang = Measure([&] { Together(); });
    r.alone = Measure([&] {
      for (auto& engine : engines_) Alone(*engine);
    });
    std::vector<float> room;
    SAE_CHECK(source_.Seek(0).ok());
    r.reading = Measure([&] {
      for (int step = 0; step < flags_.steps; ++step) SAE_CHECK(source_.View(flags_.batch, &room).ok());
    });
    return r;
  }

 private:
  void Together() {
    train::Gang::Options options;
    options.trials = flags_.trials;
    options.pool = &pool_;
    options.source = &source_;
    train::Gang gang(std::move(options));
    gang.Run([&](int trial) {
      train::Engine<float>& engine = *engines_[static_cast<std::size_t>(trial)];
      engine.JoinGang(&gang.engines());
      std::vector<float> none;
      for (int step = 0; step < flags_.steps; ++step)
        SAE_CHECK(engine.Step(gang.source(trial).View(flags_.batch, &none).value()).ok());
      engine.JoinGang(nullptr);
    });
  }
  void Alone(train::Engine<float>& engine) {
    SAE_CHECK(source_.Seek(0).ok());
    for (int step = 0; step < flags_.steps; ++step)
      SAE_CHECK(engine.Step(source_.View(flags_.batch, &room_).value()).ok());
  }

  const Flags flags_;
  ThreadPool pool_;
  std::unique_ptr<comm::Communicator> self_;
  data::StoreSource source_;
  std::vector<std::unique_ptr<train::Engine<float>>> engines_;
  std::vector<float> room_;
};

int Main(int argc, char** argv) {
  Flags flags;
  CLI::App app{"Trials in one gang against the same trials one after the other.", "pack_bench"};
  app.add_option("--trials", flags.trials)->capture_default_str();
  app.add_option("--latents", flags.latents)->capture_default_str();
  app.add_option("--width", flags.d)->capture_default_str();
  app.add_option("--batch", flags.batch)->capture_default_str();
  app.add_option("--threads", flags.threads)->capture_default_str();
  app.add_option("--steps", flags.steps, "of each trial in a round")->capture_default_str();
  app.add_option("--rounds", flags.rounds)->capture_default_str();
  app.add_flag("--certified", flags.certified);
  app.add_flag("--json", flags.json);
  app.add_option("--scratch", flags.scratch, "where the store is written")->capture_default_str();
  CLI11_PARSE(app, argc, argv);
  const std::string folder = flags.scratch + "/saeloom-pack-bench-" + std::to_string(::getpid());
  std::vector<double> gang, alone, reading, ratio, processor;
  {
    Bench bench(flags, MakeStore(flags, folder));
    bench.Run();  // warm
    const double steps = flags.steps * flags.trials;
    for (int r = 0; r < flags.rounds; ++r) {
      const Round round = bench.Run();
      gang.push_back(round.gang.wall / steps);
      alone.push_back(round.alone.wall / steps);
      reading.push_back(round.reading.wall / flags.steps);
      ratio.push_back(round.alone.wall / round.gang.wall);
      processor.push_back(round.alone.processor / round.gang.processor);
    }
  }
  std::filesystem::remove_all(folder);
  const nlohmann::json out = {{"gang_ms", Median(gang)},       {"alone_ms", Median(alone)},
                              {"reading_ms", Median(reading)}, {"ratio", Median(ratio)},
                              {"processor_ratio", Median(processor)}};
  if (flags.json) {
    std::printf("%s\n", out.dump().c_str());
    return 0;
  }
  std::printf("%d TopK trials, n=%ld d=%ld B=%ld%s, %d threads, medians of %d rounds of %d steps\n", flags.trials,
              static_cast<long>(flags.latents), static_cast<long>(flags.d), static_cast<long>(flags.batch),
              flags.certified ? " certified" : "", flags.threads, flags.rounds, flags.steps);
  std::printf("ms a trial and step: in one gang %.1f, alone %.1f (reading the batch %.1f); alone/gang %.3f wall, %.3f processor\n",
              Median(gang), Median(alone), Median(reading), Median(ratio), Median(processor));
  return 0;
}

}  // namespace
}  // namespace sae::bench

int main(int argc, char** argv) { return sae::bench::Main(argc, argv); }
