// One training step on P ranks of one thread each, P = 1 and 2 in turns in one run: milliseconds by phase, the share of
// the step that is not the encoder's product, bytes sent a token, and the efficiency T(1) / (P T(P)), or against the first P that is given. Ranks are processes
// under mpirun (as many as the largest P; the others wait without computing) or threads without it. The second
// efficiency, the product and the share are of the rank's own processor time (rank 0; turning in a collective counts),
// which other programs on the machine disturb less.
//   mpirun -np 2 --bind-to none ranks_bench
//   ranks_bench --shape 16384,576,32,4096 --ranks 1,2,4
//   ranks_bench --set train.decoder_layout=columns          any field of the trial, after the bench's own

#include <CLI/CLI.hpp>
#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "bench/timing.h"
#include "sae/comm/communicator.h"
#include "sae/kernels/encode.h"
#include "sae/train/engine/engine.h"

namespace {
using sae::bench::Cost;
using sae::bench::Median;
using sae::bench::Normals;
using sae::comm::Communicator;

/// Of this thread alone, which is the rank.
double ProcessorMilliseconds() {
  timespec t{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
  return 1e3 * static_cast<double>(t.tv_sec) + 1e-6 * static_cast<double>(t.tv_nsec);
}

template <class Work>
Cost Timed(const Work& work) {
  const double used = ProcessorMilliseconds();
  const auto start = std::chrono::steady_clock::now();
  work();
  const auto end = std::chrono::steady_clock::now();
  return {std::chrono::duration<double, std::milli>(end - start).count(), ProcessorMilliseconds() - used};
}

constexpr absl::Duration kPatience = absl::Minutes(10);

struct Shape {
  std::int64_t latents = 0, width = 0, k = 0, batch = 0;
};

struct Options {
  std::vector<std::string> shapes = {"16384,576,32,4096", "4096,256,32,1024"}, set;
  std::vector<int> ranks = {1, 2};
  std::int64_t repeats = 7;
};

absl::StatusOr<Shape> Parse(const std::string& text) {
  long v[4];
  if (std::sscanf(text.c_str(), "%ld,%ld,%ld,%ld", v, v + 1, v + 2, v + 3) != 4)
    return absl::InvalidArgumentError(absl::StrCat("--shape ", text, ": needs n,d,k,B"));
  return Shape{v[0], v[1], v[2], v[3]};
}

absl::StatusOr<sae::config::TrialConfig> Config(const Options& o, const Shape& s, int ranks) {
  sae::config::TrialConfig c;
  c.ranks = ranks;
  c.sae.latents = s.latents;
  c.sae.k = s.k;
  c.sae.aux_k = 0;
  c.train.batch = s.batch;
  c.train.tokens = 1e9;
  c.train.lr = 1e-9;  // the same work every step
  c.train.replicas = 1;
  for (const std::string& one : o.set) {
    const std::size_t at = one.find('=');
    if (at == std::string::npos) return absl::InvalidArgumentError(absl::StrCat("--set ", one, ": needs field=value"));
    const std::string path = one.substr(0, at), value = one.substr(at + 1);
    // A word that is no JSON is a text.
    if (sae::config::SetField(c, path, value).ok()) continue;
    SAE_RETURN_IF_ERROR(sae::config::SetField(c, path, "\"" + value + "\""));
  }
  return c;
}

/// A dictionary on its ranks, ready for its next step.
class Side {
 public:
  static absl::StatusOr<std::unique_ptr<Side>> Create(const Options& o, const Shape& s, Communicator& c) {
    SAE_ASSIGN_OR_RETURN(const auto config, Config(o, s, c.size()));
    auto side = std::unique_ptr<Side>(new Side(s, c));
    SAE_ASSIGN_OR_RETURN(side->engine_, sae::train::CreateEngine<float>(config, s.width, c, side->pool_));
    SAE_RETURN_IF_ERROR(side->engine_->Initialise(side->x_));
    return side;
  }

  /// One step, and the product alone on this rank's part of the dictionary.
  absl::Status Step(bool keep) {
    SAE_RETURN_IF_ERROR(communicator_.Barrier());
    const Cost product = Timed([&] { Product(); });
    SAE_RETURN_IF_ERROR(communicator_.Barrier());
    const auto bytes = communicator_.traffic().Total().bytes;
    absl::Status stepped;
    const Cost step = Timed([&] { stepped = engine_->Step(x_); });
    SAE_RETURN_IF_ERROR(stepped);
    const auto sent = communicator_.traffic().Total().bytes - bytes;
    SAE_ASSIGN_OR_RETURN(const auto metrics, engine_->LastMetrics());
    if (!keep) return absl::OkStatus();
    times_["step"].push_back(step.wall);
    times_["step cpu"].push_back(step.processor);
    times_["product cpu"].push_back(product.processor);
    times_["bytes"].push_back(static_cast<double>(sent) / static_cast<double>(shape_.batch));
    for (const auto& [name, value] : metrics) times_[name].push_back(value);
    return absl::OkStatus();
  }

  double At(const std::string& name) const {
    const auto it = times_.find(name);
    return it == times_.end() ? 0 : Median(it->second);
  }
  std::vector<std::string> Purposes() const {
    std::vector<std::string> out;
    for (const auto& [name, values] : times_) {
      if (name.rfind("bytes.", 0) == 0 && name != "bytes.total" && Median(values) > 0) out.push_back(name);
    }
    return out;
  }
  const Shape& shape() const { return shape_; }

 private:
  Side(const Shape& s, Communicator& c)
      : shape_(s),
        communicator_(c),
        pool_(1),
        x_(Normals(s.batch * s.width)),
        w_(Normals(s.latents / c.size() * s.width)),
        c_(static_cast<std::size_t>(s.latents / c.size()), 0.0F) {}

  void Product() {
    sae::kernels::EncodeInput<float> in;
    in.x = x_.data();
    in.tokens = shape_.batch;
    in.d = shape_.width;
    in.w = w_.data();
    in.c = c_.data();
    in.latents = static_cast<std::int64_t>(c_.size());
    sae::kernels::EncodeChunks<float>(in, &workspace_, pool_, [](const sae::kernels::Chunk<float>&) {});
  }

  const Shape shape_;
  Communicator& communicator_;
  sae::ThreadPool pool_;
  const std::vector<float> x_;
  std::vector<float> w_, c_;
  sae::kernels::EncodeWorkspace<float> workspace_;
  std::unique_ptr<sae::train::Engine<float>> engine_;
  std::map<std::string, std::vector<double>> times_;
};

void Print(const Side& side, int ranks, double alone, double alone_cpu) {
  const double step = side.At("step"), cpu = side.At("step cpu"), product = side.At("product cpu");
  std::printf("%2d %8.1f %7.1f %7.1f %8.1f %7.1f %7.1f %7.1f %10.2f %9.1f %9.1f %8.1f%% %10.2f %8.0f\n", ranks, step,
              side.At("ms.encode"), side.At("ms.select"), side.At("ms.exchange"), side.At("ms.decode"),
              side.At("ms.backward"), side.At("ms.update"), alone / (ranks * step), cpu, product, 100 * (1 - product / cpu),
              alone_cpu / (ranks * cpu), side.At("bytes"));
  std::string purposes;
  for (const std::string& name : side.Purposes())
    absl::StrAppend(&purposes, " ", name.substr(6), " ",
                    static_cast<std::int64_t>(side.At(name) / static_cast<double>(side.shape().batch)));
  if (!purposes.empty()) std::printf("   bytes a token by purpose:%s\n", purposes.c_str());
  std::fflush(stdout);
}

/// `groups`: a communicator for each P, the own rank's, or null where it has no part.
absl::Status RunShape(const Options& o, const Shape& s, Communicator& all,
                      const std::vector<std::unique_ptr<Communicator>>& groups) {
  std::vector<std::unique_ptr<Side>> sides;
  for (const auto& group : groups) {
    sides.emplace_back();
    if (group == nullptr) continue;
    SAE_ASSIGN_OR_RETURN(sides.back(), Side::Create(o, s, *group));
  }
  for (std::int64_t turn = -2; turn < o.repeats; ++turn) {
    for (const auto& side : sides) {
      if (side != nullptr) {
        SAE_RETURN_IF_ERROR(side->Step(turn >= 0));
      }
      SAE_RETURN_IF_ERROR(all.Barrier());
    }
  }
  if (all.rank() != 0) return absl::OkStatus();
  std::printf("topk n=%ld d=%ld k=%ld B=%ld, one thread a rank, medians of %ld; ms\n", static_cast<long>(s.latents),
              static_cast<long>(s.width), static_cast<long>(s.k), static_cast<long>(s.batch), static_cast<long>(o.repeats));
  std::printf("%2s %8s %7s %7s %8s %7s %7s %7s %10s %9s %9s %9s %10s %8s\n", "P", "step", "encode", "select", "exchange",
              "decode", "backw.", "update", "efficiency", "step cpu", "product", "non-gemm", "efficiency", "B/token");
  double alone = 0, alone_cpu = 0;
  for (std::size_t i = 0; i < sides.size(); ++i) {
    if (i == 0) {
      alone = o.ranks[i] * sides[i]->At("step");
      alone_cpu = o.ranks[i] * sides[i]->At("step cpu");
    }
    Print(*sides[i], o.ranks[i], alone, alone_cpu);
  }
  return absl::OkStatus();
}

absl::Status Run(const Options& o, Communicator& all) {
  std::vector<std::unique_ptr<Communicator>> groups;
  for (const int p : o.ranks) {
    if (p < 1 || p > all.size())
      return absl::InvalidArgumentError(absl::StrCat("--ranks ", p, ": ", all.size(), " are running"));
    const bool in = all.rank() < p;
    SAE_ASSIGN_OR_RETURN(auto group, all.Split(in ? 0 : 1, all.rank()));
    groups.push_back(in ? std::move(group) : nullptr);
  }
  for (const std::string& text : o.shapes) {
    SAE_ASSIGN_OR_RETURN(const Shape shape, Parse(text));
    SAE_RETURN_IF_ERROR(RunShape(o, shape, all, groups));
  }
  return absl::OkStatus();
}

absl::Status RunUnderMpi(const Options& o) {
  int provided = 0;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS)
    return absl::InternalError("MPI_Init_thread failed");
  absl::Status status;
  {
    absl::StatusOr<std::unique_ptr<Communicator>> all = sae::comm::CreateMpi(kPatience);
    status = all.ok() ? Run(o, **all) : all.status();
  }
  status.ok() ? MPI_Finalize() : MPI_Abort(MPI_COMM_WORLD, 1);
  return status;
}

}  // namespace

int main(int argc, char** argv) {
  Options o;
  CLI::App app("Times one TopK step on one rank and on several, each of one thread");
  app.add_option("--shape", o.shapes, "n,d,k,B");
  app.add_option("--ranks", o.ranks, "numbers of ranks to compare, in turns")->delimiter(',');
  app.add_option("--set", o.set, "field=value of the trial");
  app.add_option("--repeats", o.repeats)->check(CLI::PositiveNumber);
  CLI11_PARSE(app, argc, argv);
  const bool mpi = std::getenv("OMPI_COMM_WORLD_SIZE") != nullptr || std::getenv("PMI_SIZE") != nullptr;
  const int most = *std::max_element(o.ranks.begin(), o.ranks.end());
  const absl::Status status =
      mpi ? RunUnderMpi(o)
          : sae::comm::RunInProcess(most, [&](Communicator& all) { return Run(o, all); }, kPatience);
  if (!status.ok()) std::fprintf(stderr, "ranks_bench: %s\n", std::string(status.message()).c_str());
  return status.ok() ? 0 : 1;
}
