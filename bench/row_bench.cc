// Time of the sparse kernels beside the machine's own speed, all measured in turns in one run:
//   copy       memcpy of a buffer as large as one matrix, bytes read and written
//   in place   a *= c over six such matrices: the traffic of Adam, 24 bytes a parameter
//   gather     rows of x and g in the order of the update, added up and forgotten
// then RowUpdate, decode + error + latent gradients called apart, and TokenPass.
//   row_bench --latents 16384 --width 576 --k 32 --batch 4096 --threads 2

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <functional>
#include <hwy/detect_targets.h>
#include <hwy/targets.h>
#include <string>
#include <vector>

#include "bench/timing.h"
#include "sae/base/random.h"
#include "sae/kernels/latent_gradient.h"
#include "sae/kernels/row_step.h"
#include "sae/kernels/sparse_decode.h"
#include "sae/kernels/token_pass.h"
#include "sae/kernels/vector_ops.h"

namespace {

using sae::ThreadPool;
using sae::bench::Measure;
using sae::bench::Median;
namespace kernels = sae::kernels;

struct Options {
  std::int64_t latents = 16384, width = 576, k = 32, batch = 4096, repeats = 15;
  int threads = 2;
};

struct Case {
  std::string name;
  double bytes;  // that it must move, 0: not said
  std::function<void()> work;
  std::vector<double> wall = {};
  std::vector<double> cpu = {};
};

// Where other programs run, time of one processor is what to compare: `cpu` / threads.
void Report(std::vector<Case>& cases, int threads) {
  std::printf("%-18s %9s %9s %9s\n", "ms", "wall", "fastest", "cpu");
  for (Case& c : cases) {
    const double cpu = Median(c.cpu) / threads;
    const double wall = Median(c.wall);
    std::printf("%-18s %9.2f %9.2f %9.2f", c.name.c_str(), wall, *std::min_element(c.wall.begin(), c.wall.end()), cpu);
    if (c.bytes > 0) std::printf("  %6.1f MB  %5.1f GB/s", c.bytes / 1e6, c.bytes / cpu / 1e6);
    std::printf("\n");
  }
}

kernels::Codes<float> RandomCodes(const Options& o) {
  sae::Random random(7);
  kernels::Codes<float> codes;
  codes.Clear(o.batch, o.latents);
  for (std::int64_t b = 0; b < o.batch; ++b) {
    std::vector<std::int32_t> ids;
    while (static_cast<std::int64_t>(ids.size()) < o.k) {
      const auto id =
          static_cast<std::int32_t>(random.Below(static_cast<std::uint64_t>(o.latents)));
      if (std::find(ids.begin(), ids.end(), id) == ids.end()) ids.push_back(id);
    }
    std::sort(ids.begin(), ids.end());
    for (const std::int32_t id : ids) {
      codes.ids.push_back(id);
      codes.values.push_back(static_cast<float>(random.Uniform()));
    }
    codes.indptr[static_cast<std::size_t>(b) + 1] = static_cast<std::int64_t>(codes.ids.size());
  }
  return codes;
}

std::vector<float> Normal(std::int64_t size) {
  sae::Random random(1);
  std::vector<float> out(static_cast<std::size_t>(size));
  for (float& v : out) v = static_cast<float>(random.Normal());
  return out;
}

void Run(const Options& o) {
  ThreadPool pool(o.threads);
  const kernels::Codes<float> codes = RandomCodes(o);
  kernels::LatentIndex index;
  kernels::BuildLatentIndex(codes, &index);
  const std::int64_t parameters = o.latents * o.width;
  std::vector<float> w_enc = Normal(parameters);
  std::vector<float> w_dec = w_enc;
  std::vector<float> em(w_enc.size()), ev(em), dm(em), dv(em), copy(em);
  const std::vector<float> x = Normal(o.batch * o.width);
  std::vector<float> g = x;
  std::vector<float> x_hat(x.size()), u(codes.values.size()), delta(codes.values);
  const std::vector<float> b_dec = Normal(o.width);
  std::vector<float> delta_sums(static_cast<std::size_t>(o.latents));
  for (std::int64_t i = 0; i < o.latents; ++i)
    kernels::RenormaliseRow(o.width, w_dec.data() + i * o.width);

  const std::vector<kernels::GradientTerm<float>> terms = {
      {&index, codes.values.data(), delta.data(), g.data()}};
  kernels::RowGradientInput<float> input;
  input.latents = o.latents;
  input.d = input.d_out = o.width;
  input.x = x.data();
  input.b_dec = b_dec.data();
  input.terms = terms;
  input.delta_sums = delta_sums.data();
  kernels::RowUpdateOptions options;
  options.adam = kernels::Adam::At(1000, 1e-9, 0.9, 0.999, 1e-8);
  const kernels::RowParameters<float> rows{w_enc.data(), w_dec.data(), em.data(),
                                           ev.data(),    dm.data(),    dv.data()};
  kernels::RowWorkspace<float> workspace;
  kernels::TokenPassInput<float> token;
  token.codes = &codes;
  token.f = codes.values.data();
  token.decoder = w_dec.data();
  token.target = x.data();
  token.factor = 1e-3F;
  token.d = o.width;

  const auto over_matrix = [&](const std::function<void(std::int64_t, std::int64_t)>& part) {
    pool.ParallelFor(parameters,
                     [&](std::int64_t begin, std::int64_t end, int) { part(begin, end); });
  };
  const double matrix = static_cast<double>(parameters) * 4;
  const double gathered = static_cast<double>(codes.nnz() * o.width) * 4;
  std::vector<Case> cases;
  cases.push_back({"copy", 2 * matrix, [&] {
                     over_matrix([&](std::int64_t begin, std::int64_t end) {
                       std::memcpy(copy.data() + begin, w_enc.data() + begin,
                                   static_cast<std::size_t>(end - begin) * 4);
                     });
                   }});
  cases.push_back({"in place", 12 * matrix, [&] {
                     for (auto* a : {&w_enc, &w_dec, &em, &ev, &dm, &dv}) {
                       over_matrix([&](std::int64_t begin, std::int64_t end) {
                         kernels::Scale(end - begin, 1.0F, a->data() + begin);
                       });
                     }
                   }});
  const std::vector<float> ones(codes.values.size(), 1.0F);
  std::vector<const float*> x_rows;
  std::vector<const float*> g_rows;
  for (const std::int32_t t : index.tokens) {
    x_rows.push_back(x.data() + t * o.width);
    g_rows.push_back(g.data() + t * o.width);
  }
  cases.push_back({"gather", 2 * gathered, [&] {
                     pool.ParallelFor(o.latents, [&](std::int64_t begin, std::int64_t end, int) {
                       std::vector<float> sum(static_cast<std::size_t>(o.width));
                       const std::int64_t first = index.indptr[static_cast<std::size_t>(begin)];
                       const std::int64_t last = index.indptr[static_cast<std::size_t>(end)];
                       for (std::int64_t q = first; q < last; q += 8) {
                         const std::int64_t count = std::min<std::int64_t>(8, last - q);
                         const std::int64_t fetched = std::min<std::int64_t>(8, last - q - count);
                         for (const auto* list : {&x_rows, &g_rows}) {
                           kernels::AddRows(o.width, {count, ones.data(), list->data() + q},
                                            {fetched, nullptr, list->data() + q + count},
                                            sum.data());
                         }
                       }
                     });
                   }});
  cases.push_back({"sum by latent", 0,
                   [&] { kernels::SumByLatent(index, delta.data(), delta_sums.data(), pool); }});
  cases.push_back({"row update", 12 * matrix,
                   [&] { kernels::RowUpdate(input, options, rows, &workspace, pool); }});
  cases.push_back({"decode", gathered, [&] {
                     const kernels::SparseDecodeParams<float> p{codes.indptr.data(),
                                                                codes.ids.data(),
                                                                codes.values.data(),
                                                                w_dec.data(),
                                                                x_hat.data(),
                                                                o.batch,
                                                                o.width};
                     (void)kernels::SparseDecode(kernels::Device::kCpu, p, pool);
                   }});
  cases.push_back({"residual", 0, [&] {
                     kernels::Residual(x.data(), 1.0F, x_hat.data(), o.batch, o.width, 1e-3F,
                                       g.data(), pool);
                   }});
  cases.push_back(
      {"latent gradient", gathered,
       [&] { kernels::LatentGradient(codes, w_dec.data(), g.data(), o.width, u.data(), pool); }});
  cases.push_back({"token pass", gathered,
                   [&] { kernels::TokenPass(token, x_hat.data(), g.data(), u.data(), pool); }});
  for (std::int64_t r = -1; r < o.repeats; ++r) {  // the first round warms up
    for (Case& c : cases) {
      if (c.name == "decode" || c.name == "token pass") {
        kernels::FillRows(b_dec.data(), o.batch, o.width, x_hat.data(), pool);
      }
      const sae::bench::Cost cost = Measure(c.work);
      if (r < 0) continue;
      c.wall.push_back(cost.wall);
      c.cpu.push_back(cost.processor);
    }
  }
  std::printf("n %ld, d %ld, k %ld, B %ld, %d threads\n", o.latents, o.width, o.k, o.batch,
              o.threads);
  Report(cases, o.threads);
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("The sparse kernels beside what the machine can move");
  Options o;
  app.add_option("--latents", o.latents);
  app.add_option("--width", o.width);
  app.add_option("--k", o.k);
  app.add_option("--batch", o.batch);
  app.add_option("--repeats", o.repeats);
  app.add_option("--threads", o.threads);
  bool avx2 = false;
  app.add_flag("--avx2", avx2, "leave AVX-512 alone");
  CLI11_PARSE(app, argc, argv);
  if (avx2) hwy::DisableTargets(HWY_AVX3 | HWY_AVX3_DL);
  Run(o);
  return 0;
}
