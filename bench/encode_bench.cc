// Time of the encoder with each way of selecting, and what selection adds to the chunked product
// alone, measured in turns in one run.
//   encode_bench --latents 16384 --width 576 --k 32 --batch 4096 --threads 2
//   encode_bench --latents 32768 --width 768 --k 64 --batch 2048 --threads 2

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

#include "bench/timing.h"
#include "sae/base/random.h"
#include "sae/kernels/batch_topk.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/gemm.h"

namespace {

using sae::ThreadPool;
using namespace sae::bench;
using namespace sae::kernels;

struct Options {
  std::int64_t latents = 16384, width = 576, k = 32, batch = 4096, dead = 300, k_aux = 256;
  int threads = 2, repeats = 15;
};

AlignedVector<float> Normal(std::uint64_t seed, std::int64_t count, double scale) {
  sae::Random random(seed);
  AlignedVector<float> out(static_cast<std::size_t>(count));
  for (float& v : out) v = static_cast<float>(scale * random.Normal());
  return out;
}

struct Case {
  std::string name;
  std::function<void()> run;
  std::vector<double> times, processor;
};

class Bench {
 public:
  explicit Bench(const Options& o)
      : o_(o),
        x_(Normal(1, o.batch * o.width, 1)),
        w_(Normal(2, o.latents * o.width, 1 / std::sqrt(static_cast<double>(o.width)))),
        c_(static_cast<std::size_t>(o.latents), 0.0F),
        pool_(o.threads) {
    in_.x = x_.data();
    in_.tokens = o.batch;
    in_.d = o.width;
    in_.w = w_.data();
    in_.c = c_.data();
    in_.latents = o.latents;
    for (std::int64_t i = 0; i < o.dead; ++i)
      dead_.push_back(static_cast<std::int32_t>(i * o.latents / o.dead));
  }

  void Run() {
    AddCases();
    for (int turn = 0; turn < o_.repeats + 2; ++turn) {
      for (Case& one : cases_) {
        const Cost cost = Measure(one.run);
        if (turn < 2) continue;
        one.times.push_back(cost.wall);
        one.processor.push_back(cost.processor / o_.threads);
      }
    }
    Print();
  }

 private:
  void Print() const {
    const double product = Median(cases_.front().times);
    const double busy = Median(cases_.front().processor);
    const double flops = 2e-6 * static_cast<double>(o_.batch * o_.latents * o_.width);
    std::printf("(n, d, k, B) = (%ld, %ld, %ld, %ld), %d threads, medians of %d turns, ms\n",
                static_cast<long>(o_.latents), static_cast<long>(o_.width), static_cast<long>(o_.k),
                static_cast<long>(o_.batch), o_.threads, o_.repeats);
    std::printf("the product alone: %.0f GFLOP/s\n%-28s%9s%9s%9s%9s%9s\n", flops / product, "",
                "wall", "+", "ratio", "cpu/thr", "+");
    for (const Case& one : cases_) {
      const double time = Median(one.times);
      const double cpu = Median(one.processor);
      std::printf("%-28s%9.2f%+9.2f%9.3f%9.2f%+9.2f\n", one.name.c_str(), time, time - product,
                  time / product, cpu, cpu - busy);
    }
  }

  void Add(std::string name, std::function<void()> run) {
    cases_.push_back({std::move(name), std::move(run), {}});
  }

  void AddCases() {
    const float above = static_cast<float>(
        NormalQuantile(static_cast<double>(o_.k) / static_cast<double>(o_.latents)));
    Add("product in chunks",
        [this] { EncodeChunks<float>(in_, &workspace_, pool_, [](const Chunk<float>&) {}); });
    Add("top-k", [this] { Check(EncodeTopK(in_, o_.k, &workspace_, &top_, pool_)); });
    Add("top-k, winners by id",
        [this] { Check(EncodeTopK(in_, o_.k, &workspace_, &by_id_, pool_, TopKOrder::kById)); });
    Add("above a bound, L0 = k", [this, above] {
      Check(EncodeAbove<float>(in_, nullptr, above, &workspace_, &codes_, pool_));
    });
    Add("largest of the batch", [this] {
      Check(EncodeLargest(in_, o_.k * o_.batch, 0.0F, &workspace_, &largest_, pool_));
    });
    Add("aux: top of the dead", [this] {
      EncodeInput<float> in = in_;
      in.subset = dead_.data();
      in.subset_size = o_.dead;
      Check(EncodeTopK(in, o_.k_aux, &aux_workspace_, &aux_, pool_));
    });
    Add("aux: product of the dead", [this] {
      EncodeInput<float> in = in_;
      in.subset = dead_.data();
      in.subset_size = o_.dead;
      EncodeChunks<float>(in, &aux_workspace_, pool_, [](const Chunk<float>&) {});
    });
    Add("codes of winners by value",
        [this] { CodesFromTopK<float>(top_, nullptr, 0, o_.latents, &from_top_, pool_); });
    Add("codes of winners by id",
        [this] { CodesFromTopK<float>(by_id_, nullptr, 0, o_.latents, &from_top_, pool_); });
    Add("index by latent", [this] { BuildLatentIndex(from_top_, &index_, pool_); });
  }

  static void Check(bool finite) {
    if (!finite) std::abort();
  }

  const Options o_;
  const AlignedVector<float> x_, w_, c_;
  ThreadPool pool_;
  EncodeInput<float> in_;
  std::vector<std::int32_t> dead_;
  EncodeWorkspace<float> workspace_, aux_workspace_;
  TopK<float> top_, by_id_, aux_;
  Codes<float> codes_, largest_, from_top_;
  LatentIndex index_;
  std::vector<Case> cases_;
};

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("time of the encoder with each selection");
  Options o;
  app.add_option("--latents", o.latents, "n");
  app.add_option("--width", o.width, "d");
  app.add_option("--k", o.k, "winners, and L0 of the others");
  app.add_option("--batch", o.batch, "tokens");
  app.add_option("--dead", o.dead, "latents of the subset");
  app.add_option("--k-aux", o.k_aux, "winners of the subset");
  app.add_option("--threads", o.threads, "threads");
  app.add_option("--repeats", o.repeats, "turns");
  CLI11_PARSE(app, argc, argv);
  Bench(o).Run();
  return 0;
}
