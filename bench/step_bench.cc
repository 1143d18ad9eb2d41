// Time of one training step of every architecture by phase, its ratio to the encoder's product alone
// in the engine's own chunks and to oneDNN's whole-matrix sgemm, and to its floor, measured in turns
// in one run. Thresholds and biases are set so that a mean of k latents fires; learning rates are so
// small that every step does the same work.
//   step_bench                                            every architecture at both shapes
//   step_bench --only topk --certified --shape 16384,576,32,4096
//   step_bench --only relu_l1 --l0 8192 --dense on        half of all latents fire

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "bench/timing.h"
#include "sae/base/random.h"
#include "sae/kernels/encode.h"
#include "sae/kernels/gemm.h"
#include "sae/train/engine/engine.h"

namespace {

using sae::ThreadPool;
using sae::bench::Measure;
using sae::bench::Median;

struct Shape {
  std::int64_t latents = 16384, width = 576, k = 32, batch = 4096;
};

struct Options {
  std::vector<std::string> only, shapes;
  std::int64_t ranks = 1, repeats = 7;
  int threads = 2;
  double l0 = 0, dead = 0;
  bool certified = false;
  std::string dense = "auto", output = "table";
};

struct Row {
  std::string architecture;
  Shape shape;
  std::map<std::string, double> medians;
  double floor = 0;
  double whole_gflops = 0;
};

std::vector<float> Normals(std::int64_t count, std::int64_t d) {
  sae::Random random(1);
  std::vector<float> out(static_cast<std::size_t>(count * d));
  for (float& v : out) v = static_cast<float>(random.Normal());
  return out;
}

sae::config::TrialConfig Config(const Options& o, const std::string& architecture, const Shape& s) {
  sae::config::TrialConfig c;
  c.ranks = o.ranks;
  c.sae.architecture = architecture;
  c.sae.latents = s.latents;
  const bool ranked =
      architecture == "topk" || architecture == "batchtopk" || architecture == "matryoshka";
  if (ranked) c.sae.k = s.k;
  if (ranked && o.dead == 0) c.sae.aux_k = 0;
  c.sae.l1_coefficient = architecture == "relu_l1" || architecture == "gated" ? 0.01 : 0;
  if (architecture == "jumprelu") {
    c.sae.target_l0 = o.l0 > 0 ? o.l0 : static_cast<double>(s.k);
    c.sae.threshold_lr = 1e-9;
  }
  c.train.batch = s.batch;
  c.train.tokens = 1e9;
  c.train.lr = 1e-9;  // the same work every step
  c.train.sparsity_warmup_steps = 0;
  if (o.certified) c.train.selection = "certified";
  return c;
}

// Biases for the wanted L0, counters for the wanted share of dead latents.
void Arrange(const Options& o, const std::string& architecture, const Shape& s,
             sae::train::Engine<float>& engine) {
  const double l0 = o.l0 > 0 ? o.l0 : static_cast<double>(s.k);
  const double bias = sae::bench::BiasFor(l0, s.latents, s.width);
  const sae::model::State state = engine.state();
  const auto dead = static_cast<std::int64_t>(o.dead * static_cast<double>(state.shard.count));
  for (const auto& t : state.tensors) {
    auto* values = static_cast<float*>(t.data);
    if (t.name == "b_enc" && (architecture == "relu_l1" || architecture == "gated"))
      std::fill_n(values, state.shard.count, static_cast<float>(bias));
    if (t.name == "b_enc" && dead > 0) std::fill_n(values, dead, -1.0F);
    if (t.name == "tokens_since_fired" && dead > 0)
      std::fill_n(static_cast<std::int64_t*>(t.data), dead, std::int64_t{1} << 40);
  }
}

// Milliseconds of the product alone with all threads: in the engine's chunks, and as one sgemm in
// oneDNN's tiles.
class Product {
 public:
  Product(const Options& o, const Shape& s, const std::vector<float>& x)
      : shape_(s),
        x_(x),
        w_(Normals(s.latents, s.width)),
        z_(static_cast<std::size_t>(s.batch * s.latents)),
        c_(static_cast<std::size_t>(s.latents), 0.0F),
        pool_(o.threads) {}

  double Chunked() {
    sae::kernels::EncodeInput<float> in;
    in.x = x_.data();
    in.tokens = shape_.batch;
    in.d = shape_.width;
    in.w = w_.data();
    in.c = c_.data();
    in.latents = shape_.latents;
    return Measure([&] {
      sae::kernels::EncodeChunks<float>(in, &workspace_, pool_,
                                        [](const sae::kernels::Chunk<float>&) {});
    }).wall;
  }
  double Whole() {
    return Measure([&] {
      sae::kernels::Gemm(shape_.batch, shape_.latents, shape_.width, x_.data(), shape_.width,
                         w_.data(), shape_.width, z_.data(), shape_.latents, pool_);
    }).wall;
  }
  /// Bytes a millisecond, read and written, of z += 1 over its buffer.
  double Bandwidth() {
    const auto size = static_cast<std::int64_t>(z_.size());
    const double time = Measure([&] {
      pool_.ParallelFor(size, [&](std::int64_t begin, std::int64_t end, int) {
        for (std::int64_t i = begin; i < end; ++i) z_[static_cast<std::size_t>(i)] += 1;
      });
    }).wall;
    return 8.0 * static_cast<double>(size) / time;
  }

 private:
  const Shape shape_;
  const std::vector<float>& x_;
  std::vector<float> w_, z_, c_;
  ThreadPool pool_;
  sae::kernels::EncodeWorkspace<float> workspace_;
};

// The product in the engine's chunks, and the bytes that must come from memory: parameters and both
// moments read and written once (Adam: 24 bytes a parameter), decoder rows of all codes read once
// (twice for the gate's own reconstruction).
double Floor(const Shape& s, const std::string& architecture, double chunked, double bandwidth) {
  const double parameters = 2.0 * static_cast<double>(s.latents * s.width);
  const double rows = 4.0 * static_cast<double>(s.batch * s.k * s.width);
  return chunked + (24 * parameters + rows * (architecture == "gated" ? 2 : 1)) / bandwidth;
}

absl::StatusOr<Row> Measure(const Options& o, const std::string& architecture, const Shape& s) {
  const std::vector<float> x = Normals(s.batch, s.width);
  Product product(o, s, x);
  Row row;
  row.architecture = architecture + (o.certified ? " certified" : "");
  row.shape = s;
  const absl::Status status = sae::comm::RunInProcess(
      static_cast<int>(o.ranks),
      [&](sae::comm::Communicator& c) {
        ThreadPool pool(std::max(1, o.threads / static_cast<int>(o.ranks)));
        SAE_ASSIGN_OR_RETURN(
            auto engine, sae::train::CreateEngine<float>(Config(o, architecture, s), s.width, c, pool));
        SAE_RETURN_IF_ERROR(engine->Initialise(x));
        Arrange(o, architecture, s, *engine);
        if (o.dense != "auto") engine->set_dense_density(o.dense == "on" ? 0 : 2);
        std::map<std::string, std::vector<double>> times;
        for (int i = 0; i < o.repeats + 2; ++i) {
          if (c.rank() == 0) {
            times["gemm chunked"].push_back(product.Chunked());
            times["gemm whole"].push_back(product.Whole());
            times["bandwidth"].push_back(product.Bandwidth());
          }
          SAE_RETURN_IF_ERROR(c.Barrier());
          absl::Status stepped;
          times["step"].push_back(Measure([&] { stepped = engine->Step(x); }).wall);
          SAE_RETURN_IF_ERROR(stepped);
          SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
          for (const auto& [name, value] : metrics) times[name].push_back(value);
          if (i < 2) times.clear();  // warm-up
        }
        if (c.rank() != 0) return absl::OkStatus();
        for (const auto& [name, values] : times) row.medians[name] = Median(values);
        return absl::OkStatus();
      },
      absl::Minutes(10));
  SAE_RETURN_IF_ERROR(status);
  row.floor = Floor(s, architecture, row.medians["gemm chunked"], row.medians["bandwidth"]);
  row.whole_gflops = 2e-6 * static_cast<double>(s.batch * s.latents * s.width) /
                     row.medians["gemm whole"];
  return row;
}

void PrintHeader(const Shape& s, const Options& o) {
  std::printf("n=%ld d=%ld k=%ld B=%ld, float32, %d threads, %ld rank(s), medians of %ld; ms\n",
              static_cast<long>(s.latents), static_cast<long>(s.width), static_cast<long>(s.k),
              static_cast<long>(s.batch), o.threads, static_cast<long>(o.ranks),
              static_cast<long>(o.repeats));
  std::printf("%-22s %7s %7s %7s %7s %7s %7s %6s %7s %8s %8s %7s %7s %7s %9s\n", "architecture",
              "L0", "encode", "select", "decode", "backw.", "update", "other", "step", "chunked",
              "whole", "/chunk", "/whole", "/floor", "tokens/s");
}

void PrintRow(const Row& r) {
  const auto at = [&](const char* name) {
    const auto it = r.medians.find(name);
    return it == r.medians.end() ? 0.0 : it->second;
  };
  const double step = at("step");
  const double parts = at("ms.encode") + at("ms.select") + at("ms.decode") + at("ms.backward") +
                       at("ms.update");
  std::printf("%-22s %7.1f %7.1f %7.1f %7.1f %7.1f %7.1f %6.1f %7.1f %8.1f %8.1f %7.2f %7.2f %7.2f %9.0f\n",
              r.architecture.c_str(), at("train.l0"), at("ms.encode"), at("ms.select"),
              at("ms.decode"), at("ms.backward"), at("ms.update"), step - parts, step,
              at("gemm chunked"), at("gemm whole"), step / at("gemm chunked"),
              step / at("gemm whole"), step / r.floor,
              1e3 * static_cast<double>(r.shape.batch) / step);
  std::fflush(stdout);
}

nlohmann::json ToJson(const Row& r) {
  nlohmann::json j = r.medians;
  j["architecture"] = r.architecture;
  j["latents"] = r.shape.latents;
  j["width"] = r.shape.width;
  j["k"] = r.shape.k;
  j["batch"] = r.shape.batch;
  j["floor_ms"] = r.floor;
  j["whole_gflops"] = r.whole_gflops;
  j["tokens_per_second"] = 1e3 * static_cast<double>(r.shape.batch) / r.medians.at("step");
  return j;
}

absl::StatusOr<std::vector<Shape>> Shapes(const std::vector<std::string>& texts) {
  if (texts.empty()) return std::vector<Shape>{{16384, 576, 32, 4096}, {32768, 768, 64, 2048}};
  std::vector<Shape> out;
  for (const std::string& text : texts) {
    Shape s;
    long values[4];
    if (std::sscanf(text.c_str(), "%ld,%ld,%ld,%ld", values, values + 1, values + 2, values + 3) != 4)
      return absl::InvalidArgumentError(absl::StrCat("--shape ", text, ": needs n,d,k,B"));
    s.latents = values[0];
    s.width = values[1];
    s.k = values[2];
    s.batch = values[3];
    out.push_back(s);
  }
  return out;
}

absl::Status Run(const Options& o) {
  SAE_ASSIGN_OR_RETURN(const std::vector<Shape> shapes, Shapes(o.shapes));
  const std::vector<std::string>& names = o.only.empty() ? sae::config::Architectures() : o.only;
  nlohmann::json all = nlohmann::json::array();
  for (const Shape& s : shapes) {
    if (o.output == "table") PrintHeader(s, o);
    for (const std::string& name : names) {
      for (const bool certified : {false, true}) {
        const bool selects = name != "relu_l1" && name != "gated";
        if (certified && (!o.only.empty() || !selects)) continue;
        Options one = o;
        one.certified = o.certified || certified;
        SAE_ASSIGN_OR_RETURN(const Row row, Measure(one, name, s));
        if (o.output == "table") PrintRow(row);
        else all.push_back(ToJson(row));
      }
    }
  }
  if (o.output == "json") std::printf("%s\n", all.dump(2).c_str());
  return absl::OkStatus();
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Times one training step of each architecture against the encoder's product");
  app.add_option("--only", o.only, "architectures; default: all, and `certified` where it applies");
  app.add_option("--shape", o.shapes, "n,d,k,B; default: 16384,576,32,4096 and 32768,768,64,2048");
  app.add_flag("--certified", o.certified, "selection: certified");
  app.add_option("--ranks", o.ranks, "in-process ranks, which share the threads");
  app.add_option("--threads", o.threads, "in all");
  app.add_option("--l0", o.l0, "relu_l1, gated, jumprelu: mean of firing latents; default k");
  app.add_option("--dead", o.dead, "topk family: share of dead latents, with AuxK at its default k");
  app.add_option("--dense", o.dense, "auto | on | off");
  app.add_option("--repeats", o.repeats);
  app.add_option("-o,--output", o.output, "table | json")->check(CLI::IsMember({"table", "json"}));
  CLI11_PARSE(app, argc, argv);
  const absl::Status status = Run(o);
  if (!status.ok()) std::fprintf(stderr, "step_bench: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
