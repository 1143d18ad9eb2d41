// What `selection: certified` costs, at one shape, measured in turns in one run: the chunked
// float32 product (the base of every ratio), float32 top-k, the screen's parts, and certified top-k
// whole. Prints medians of wall time and
// of CPU time, which suffers less from others on the machine, and the mean number of candidates a
// token. Rows of W are unit vectors; x is
// `--data` gaussian (float32), or residual: a few large coordinates, a common mean and correlated
// directions, rounded to bf16 as activation stores are.
//   certified_bench --latents 16384 --width 576 --k 32 --batch 4096 --threads 2

#include <CLI/CLI.hpp>
#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdio>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bench/timing.h"
#include "sae/base/random.h"
#include "sae/kernels/certified.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/screen.h"

namespace {

using sae::bench::Cost;
using sae::bench::Measure;
using sae::bench::Median;
using sae::kernels::EncodeInput;
using Floats = sae::kernels::AlignedVector<float>;

struct Options {
  std::int64_t latents = 16384, width = 576, k = 32, batch = 4096, repeats = 9;
  int threads = 2;
  bool float32 = false;
  std::string data = "gaussian";
};

Floats Normal(std::uint64_t seed, std::int64_t count) {
  sae::Random random(seed);
  Floats out(static_cast<std::size_t>(count));
  for (float& v : out) v = static_cast<float>(random.Normal());
  return out;
}

Floats UnitRows(std::uint64_t seed, std::int64_t rows, std::int64_t d) {
  Floats out = Normal(seed, rows * d);
  for (std::int64_t i = 0; i < rows; ++i) {
    double sum = 0;
    for (std::int64_t j = 0; j < d; ++j)
      sum += std::pow(out[static_cast<std::size_t>(i * d + j)], 2);
    for (std::int64_t j = 0; j < d; ++j)
      out[static_cast<std::size_t>(i * d + j)] /= static_cast<float>(std::sqrt(sum));
  }
  return out;
}

// Coordinates of falling scale with two that are twenty times the rest, around a common mean.
Floats Residuals(const Options& o) {
  Floats out = Normal(3, o.batch * o.width);
  const Floats mean = Normal(4, o.width);
  for (std::size_t at = 0; at < out.size(); ++at) {
    const std::size_t j = at % static_cast<std::size_t>(o.width);
    const float spread = j < 2 ? 20.0F : 2.0F / std::sqrt(1.0F + 0.05F * static_cast<float>(j));
    const float v = spread * out[at] + mean[j];
    const auto bits = std::bit_cast<std::uint32_t>(v);
    out[at] = std::bit_cast<float>((bits + 0x7fffU + ((bits >> 16) & 1U)) & 0xffff0000U);
  }
  return out;
}

int Run(const Options& o) {
  const Floats w = UnitRows(1, o.latents, o.width);
  const Floats x = o.data == "residual" ? Residuals(o) : Normal(2, o.batch * o.width);
  const Floats c(static_cast<std::size_t>(o.latents), 0.0F);
  sae::ThreadPool pool(o.threads);
  sae::kernels::Screen screen(o.latents, o.width, !o.float32);
  EncodeInput<float> plain;
  plain.x = x.data();
  plain.tokens = o.batch;
  plain.d = o.width;
  plain.w = w.data();
  plain.c = c.data();
  plain.latents = o.latents;
  EncodeInput<float> certified = plain;
  certified.screen = &screen;
  sae::kernels::EncodeWorkspace<float> workspace;
  sae::kernels::TopK<float> top;
  std::vector<Floats> z(
      static_cast<std::size_t>(o.threads),
      Floats(static_cast<std::size_t>(sae::kernels::kScreenTokens * sae::kernels::kScreenLatents)));
  bool ok = true;
  const std::pair<const char*, std::function<void()>> work[] = {
      {"chunked float32 product",
       [&] {
         sae::kernels::EncodeChunks<float>(plain, &workspace, pool,
                                           [](const sae::kernels::Chunk<float>&) {});
       }},
      {"float32 top-k", [&] { ok = EncodeTopK(plain, o.k, &workspace, &top, pool) && ok; }},
      {"screened product",
       [&] {
         pool.ParallelFor(screen.blocks(), [&](std::int64_t begin, std::int64_t end, int worker) {
           for (std::int64_t block = begin; block < end; ++block) {
             for (std::int64_t chunk = 0; chunk < screen.chunks(); ++chunk)
               screen.Product(block, chunk, worker, z[static_cast<std::size_t>(worker)].data());
           }
         });
       }},
      {"Prepare", [&] { screen.Prepare(w.data(), pool); }},
      {"PrepareTokens", [&] { screen.PrepareTokens(x.data(), o.batch, pool); }},
      {"certified top-k", [&] { ok = EncodeTopK(certified, o.k, &workspace, &top, pool) && ok; }}};
  screen.Prepare(w.data(), pool);
  screen.PrepareTokens(x.data(), o.batch, pool);
  std::vector<double> wall[6], cpu[6];
  for (std::int64_t r = 0; r <= o.repeats; ++r) {
    for (std::size_t i = 0; i < 6; ++i) {
      const Cost cost = Measure(work[i].second);
      if (r == 0) continue;  // pays for pages and code
      wall[i].push_back(cost.wall);
      cpu[i].push_back(cost.processor / o.threads);
    }
  }
  const sae::kernels::CertifiedCounts did = LastCounts(workspace);
  std::printf("n=%ld d=%ld k=%ld B=%ld threads=%d, %s screen, %s data%s\n",
              static_cast<long>(o.latents), static_cast<long>(o.width), static_cast<long>(o.k),
              static_cast<long>(o.batch), o.threads, screen.bf16() ? "bf16" : "float32",
              o.data.c_str(), ok ? "" : ", NaN");
  std::printf("%-28s %8s %8s\n", "medians", "wall ms", "cpu ms a thread");
  for (std::size_t i = 0; i < 6; ++i)
    std::printf("%-28s %8.2f %8.2f\n", work[i].first, Median(wall[i]), Median(cpu[i]));
  const auto total = [](const std::vector<double>* of) {
    return Median(of[3]) + Median(of[4]) + Median(of[5]);
  };
  std::printf("%-28s %8.2f %8.2f\n", "prepare + certified top-k", total(wall), total(cpu));
  std::printf("%-28s %8.3f %8.3f\n", "  x chunked product", total(wall) / Median(wall[0]),
              total(cpu) / Median(cpu[0]));
  std::printf("candidates per token        %8.2f, tokens computed whole %ld\n",
              static_cast<double>(did.candidates) / static_cast<double>(o.batch),
              static_cast<long>(did.whole));
  return ok ? 0 : 1;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app{"Certified selection beside the float32 product"};
  app.add_option("--latents", o.latents);
  app.add_option("--width", o.width);
  app.add_option("--k", o.k);
  app.add_option("--batch", o.batch);
  app.add_option("--threads", o.threads);
  app.add_option("--repeats", o.repeats);
  app.add_option("--data", o.data)->check(CLI::IsMember({"gaussian", "residual"}));
  app.add_flag("--float32", o.float32, "screen in float32 even where the processor has bf16");
  CLI11_PARSE(app, argc, argv);
  return Run(o);
}
