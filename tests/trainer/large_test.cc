// One trial on four processes whose dictionary fills the machine: selection, counters of dead latents, AuxK over
// (nearly) all latents, checkpoint, resume and memory, judged from what the processes leave on disk. The same test
// runs small with the other tests of mpirun, and at sixteen million latents under the label `large`.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "sae/base/safetensors.h"
#include "sae/checkpoint/manifest.h"
#include "sae/data/store_reader.h"
#include "sae/data/store_source.h"
#include "tests/trainer/trial_rig.h"

namespace sae::testing {
namespace {
namespace fs = std::filesystem;
using config::Event;
using config::EventKind;

constexpr std::int64_t kTokens = 64, kWidth = TrialRig::kWidth, kK = 32, kAuxK = 16;
constexpr absl::Duration kPatience = absl::Minutes(25);
/// Programs and libraries beside what EstimateMemory counts (run_config.h).
constexpr std::int64_t kPrograms = std::int64_t{120} << 20;

checkpoint::Manifest ManifestOf(const std::string& folder) { return checkpoint::ReadManifest(RealEnv(), folder).value(); }

std::int64_t Steps(const TrialRig& rig) { return config::TotalSteps(rig.config.trial); }

std::string StepFolder(const TrialRig& rig, std::int64_t step) {
  return rig.checkpoints() + "/step-00000000000" + std::to_string(step);
}

/// The largest resident size that the process has had, in bytes; 0 when it is gone.
std::int64_t PeakMemory(int pid) {
  std::ifstream status("/proc/" + std::to_string(pid) + "/status");
  std::string word;
  for (std::int64_t kib = 0; status >> word;) {
    if (word == "VmHWM:" && status >> kib) return kib * 1024;
  }
  return 0;
}

/// Runs to the end; the largest peak of a rank, or of none.
std::int64_t RunAndWatch(TrialRig& rig, int attempt, int ranks) {
  const std::unique_ptr<Process> process = rig.Start(attempt, ranks, true);
  std::int64_t peak = 0;
  for (absl::Duration waited; waited < kPatience; waited += absl::Milliseconds(20)) {
    const auto status = process->Wait(absl::Milliseconds(20)).value();
    if (status.has_value()) {
      EXPECT_EQ(status->ShellCode(), 0) << rig.Output();
      return peak;
    }
    for (const int pid : TrainerPids(rig.AttemptFolder(attempt))) peak = std::max(peak, PeakMemory(pid));
  }
  ADD_FAILURE() << "the run did not end";
  EXPECT_TRUE(process->Signal(SIGTERM).ok());
  return peak;
}

Event Last(const std::vector<Event>& events, EventKind kind) {
  const auto it = std::find_if(events.rbegin(), events.rend(), [&](const Event& e) { return e.kind == kind; });
  if (it == events.rend()) throw std::runtime_error("no event " + config::ToString(kind));
  return *it;
}

/// Name and hash of every file of a checkpoint.
std::map<std::string, std::string> Hashes(const std::string& folder) {
  std::map<std::string, std::string> out;
  const checkpoint::Manifest manifest = ManifestOf(folder);
  for (const auto& file : manifest.files) out[file.name] = file.hash;
  return out;
}

std::unique_ptr<SafetensorsReader> OpenFile(const std::string& folder, const std::string& name) {
  return std::move(SafetensorsReader::Open(folder + "/" + name).value());
}

template <class T>
std::vector<T> Values(const SafetensorsReader& file, const std::string& name) {
  const TensorView view = file.Get(name).value();
  std::vector<T> out(view.data.size() / sizeof(T));
  std::memcpy(out.data(), view.data.data(), view.data.size());
  return out;
}

/// Calls visit(file, first latent) for every block of latents.
template <class Visit>
void ForEachBlock(const std::string& folder, const Visit& visit) {
  const checkpoint::Manifest manifest = ManifestOf(folder);
  for (const auto& file : manifest.files) {
    if (file.rows > 0) visit(*OpenFile(folder, file.name), file.first);
  }
}

std::vector<std::int64_t> Counters(const std::string& folder, std::int64_t latents) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(latents), -1);
  ForEachBlock(folder, [&](const SafetensorsReader& file, std::int64_t first) {
    const auto values = Values<std::int64_t>(file, "tokens_since_fired");
    std::copy(values.begin(), values.end(), out.begin() + first);
  });
  return out;
}

struct Candidate {
  double z = 0;
  std::int64_t latent = 0;
};

/// Of every token of the step after `folder` the k + 1 largest pre-activations, largest first, in float64 from the
/// weights of the checkpoint and the rows of the store.
class Reference {
 public:
  Reference(const TrialRig& rig, const std::string& folder) {
    const checkpoint::Manifest manifest = ManifestOf(folder);
    std::shared_ptr<const data::ActivationStore> store = data::ActivationStore::Open(rig.store()).value();
    data::StoreSource source(store, static_cast<std::uint64_t>(rig.config.trial.train.data_seed));
    EXPECT_TRUE(source.Seek(manifest.info.data_position).ok());
    std::vector<float> rows(kTokens * kWidth);
    EXPECT_TRUE(source.Next(rows).ok());
    std::string shared;
    for (const auto& file : manifest.files) shared = file.rows == 0 ? file.name : shared;
    const auto bias = Values<float>(*OpenFile(folder, shared), "b_dec");
    const double scale = std::get<double>(manifest.scalars.at("input_scale"));
    for (std::size_t t = 0; t < kTokens; ++t) {
      for (std::size_t j = 0; j < kWidth; ++j) x_[j][t] = rows[t * kWidth + j] / scale - bias[j];
    }
    ForEachBlock(folder, [&](const SafetensorsReader& file, std::int64_t first) { Add(file, first); });
    for (auto& list : largest_) std::sort(list.begin(), list.end(), Above);
  }
  const std::array<std::vector<Candidate>, kTokens>& largest() const { return largest_; }

 private:
  static bool Above(const Candidate& a, const Candidate& b) { return a.z > b.z; }

  void Add(const SafetensorsReader& file, std::int64_t first) {
    const auto w = Values<float>(file, "W_enc"), b = Values<float>(file, "b_enc");
    for (std::size_t i = 0; i < b.size(); ++i) {
      std::array<double, kTokens> z;
      z.fill(b[i]);
      for (std::size_t j = 0; j < kWidth; ++j) {
        const double weight = w[i * kWidth + j];
        for (std::size_t t = 0; t < kTokens; ++t) z[t] += weight * x_[j][t];
      }
      for (std::size_t t = 0; t < kTokens; ++t) Offer(largest_[t], {z[t], first + static_cast<std::int64_t>(i)});
    }
  }
  static void Offer(std::vector<Candidate>& heap, const Candidate& c) {
    if (heap.size() > kK) {
      if (c.z <= heap.front().z) return;
      std::pop_heap(heap.begin(), heap.end(), Above);
      heap.pop_back();
    }
    heap.push_back(c);
    std::push_heap(heap.begin(), heap.end(), Above);
  }

  std::array<std::array<double, kTokens>, kWidth> x_;
  std::array<std::vector<Candidate>, kTokens> largest_;
};

/// What fired in the last step is what the reference selects from the weights before it; every other latent's
/// counter has grown by the batch.
void ExpectSelection(const TrialRig& rig, std::int64_t latents) {
  constexpr double kMargin = 1e-5;  // of float32 products; two values as close at the cut may change places
  const std::string before = StepFolder(rig, Steps(rig) - 1), after = StepFolder(rig, Steps(rig));
  const Reference reference(rig, before);
  const std::vector<std::int64_t> old = Counters(before, latents), now = Counters(after, latents);
  std::vector<bool> possible(now.size());
  std::int64_t winners = 0, unsure = 0;
  for (const auto& list : reference.largest()) {
    ASSERT_EQ(list.size(), static_cast<std::size_t>(kK + 1));
    ASSERT_GT(list[kK - 1].z, 0);
    for (const Candidate& c : list) {
      if (c.z >= list[kK - 1].z - kMargin) possible[static_cast<std::size_t>(c.latent)] = true;
      if (c.z <= list[kK].z + kMargin) {
        ++unsure;
        continue;
      }
      ++winners;
      ASSERT_EQ(now[static_cast<std::size_t>(c.latent)], 0) << "latent " << c.latent << " did not fire";
    }
  }
  EXPECT_GT(winners, kTokens * kK * 9 / 10) << unsure << " too close to the cut";
  std::int64_t wrong = 0, dead = 0;
  for (std::size_t i = 0; i < now.size(); ++i) {
    const bool grown = now[i] == old[i] + kTokens && old[i] >= 0 && old[i] % kTokens == 0;
    wrong += (now[i] == 0 ? possible[i] : grown) ? 0 : 1;
    dead += now[i] >= *rig.config.trial.sae.dead_after_tokens ? 1 : 0;
  }
  EXPECT_EQ(wrong, 0);
  const Event metrics = Last(rig.Events(1), EventKind::kMetrics);
  EXPECT_EQ(metrics.values.at("train.l0"), kK);
  EXPECT_DOUBLE_EQ(metrics.values.at("train.dead_fraction"), static_cast<double>(dead) / static_cast<double>(latents));
  EXPECT_GT(metrics.values.at("train.aux_loss"), 0);
  EXPECT_GE(dead, latents - kTokens * kK);
}

struct Size {
  std::int64_t latents = 0;
  std::int64_t steps = 0;
  double checkpoint_every_seconds = 0;  // less than a step
  std::vector<int> resumed_at;          // ranks
  std::string moments = "f32";
};

void Describe(TrialRig& rig, const Size& size) {
  config::TrialConfig& c = rig.config.trial;
  c.sae.latents = size.latents;
  c.sae.k = kK;
  c.sae.aux_k = kAuxK;
  c.sae.dead_after_tokens = kTokens;  // AuxK has all that did not fire in this batch
  c.train.batch = kTokens;
  c.train.tokens = static_cast<double>(size.steps * kTokens);
  c.train.log_every_steps = 1;
  c.train.checkpoint_every_seconds = size.checkpoint_every_seconds;
  c.train.reduction = "fixed";
  c.train.moments = size.moments;
  rig.config.run.watchdog_seconds = 1200;
}

/// The last step again, from the checkpoint before it.
std::int64_t ResumeAt(TrialRig& rig, int attempt, int ranks, const std::map<std::string, std::string>& expected) {
  fs::remove_all(StepFolder(rig, Steps(rig)));
  const std::int64_t peak = RunAndWatch(rig, attempt, ranks);
  EXPECT_EQ(rig.Events(attempt).front().from_step, Steps(rig) - 1);
  const Event again = Last(rig.Events(attempt), EventKind::kMetrics), first = Last(rig.Events(1), EventKind::kMetrics);
  for (const char* name : {"train.loss", "train.aux_loss", "train.l0", "train.dead_fraction"})
    EXPECT_EQ(again.values.at(name), first.values.at(name)) << name << " at " << ranks << " ranks";
  EXPECT_EQ(Hashes(StepFolder(rig, Steps(rig))), expected) << "at " << ranks << " ranks";
  return peak;
}

void ReportStep(const TrialRig& rig, int attempt) {
  const std::vector<Event> events = rig.Events(attempt);
  for (const Event& e : events) {
    std::string line = absl::StrCat("  ", config::ToString(e.kind), " step ", e.step, ":");
    for (const auto& [name, value] : e.values) absl::StrAppend(&line, " ", name, "=", value);
    std::printf("%s\n", line.c_str());
  }
}

void Check(const Size& size) {
  if (!HaveMpi()) GTEST_SKIP() << "no mpirun, or built without MPI";
  constexpr int kRanks = 4;
  TrialRig rig(1000);
  Describe(rig, size);
  const std::int64_t latents = size.latents;
  const std::int64_t peak = RunAndWatch(rig, 1, kRanks);
  if (::testing::Test::HasFailure()) return;
  ReportStep(rig, 1);
  const config::MemoryEstimate plan = config::EstimateMemory(rig.config.trial, kWidth);
  const std::int64_t planned = plan.total() + kPrograms;
  std::printf("n = %ld on %d ranks: peak %.1f MiB a rank, planned %.1f\n", static_cast<long>(latents), kRanks,
              static_cast<double>(peak) / (1 << 20), static_cast<double>(planned) / (1 << 20));
  EXPECT_LE(peak, planned);
  if (latents >= 1 << 24) {
    // What is read ahead is planned for any store; this one is small.
    const auto own = static_cast<double>(plan.total() - plan.data);
    EXPECT_NEAR(static_cast<double>(peak), own, 0.1 * own);
  }
  ExpectSelection(rig, latents);
  const auto hashes = Hashes(StepFolder(rig, Steps(rig)));
  int attempt = 1;
  for (const int ranks : size.resumed_at) {
    const std::int64_t again = ResumeAt(rig, ++attempt, ranks, hashes);
    std::printf("resumed on %d ranks: peak %.1f MiB a rank\n", ranks, static_cast<double>(again) / (1 << 20));
    if (::testing::Test::HasFailure()) return;
  }
}

TEST(Large, AHundredThousandLatentsOnFourRanks) { Check({131072, 4, 1e-9, {4, 2, 1}}); }
TEST(Large, AHundredThousandLatentsWithMomentsInEightBits) { Check({131072, 3, 1e-9, {2}, "int8"}); }
TEST(Large, SixteenMillionLatentsWithMomentsInEightBits) { Check({16777216, 2, 0.5, {4}, "int8"}); }
TEST(Large, SixteenMillionLatentsOnFourRanks) { Check({16777216, 2, 0.5, {4, 2}}); }

}  // namespace
}  // namespace sae::testing
