#include "client/offline/recovery.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>
#include <numeric>
#include <span>
#include <unistd.h>

#include "client/offline/recovery_codes.h"
#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/base/mutex.h"
#include "sae/comm/communicator.h"
#include "sae/data/synthetic.h"
#include "sae/eval/dictionary_match.h"
#include "sae/model/state.h"
#include "sae/train/engine/engine.h"

namespace sae::client {
namespace {

constexpr std::int64_t kSampleRows = 8192;
constexpr std::int64_t kProgressSteps = 100;

using Engine = train::Engine<float>;

std::span<const float> Tensor(const model::State& state, const std::string& name) {
  for (const model::StateTensor& t : state.tensors) {
    if (t.name != name) continue;
    const std::int64_t size = std::accumulate(t.shape.begin(), t.shape.end(), std::int64_t{1},
                                              std::multiplies<std::int64_t>());
    return {static_cast<const float*>(t.data), static_cast<std::size_t>(size)};
  }
  return {};
}

absl::Status Train(const RecoveryCase& c, data::SyntheticSource& source, Engine& engine,
                   const std::function<void(std::int64_t)>& progress) {
  const auto d = static_cast<std::size_t>(source.d());
  std::vector<float> rows(static_cast<std::size_t>(kSampleRows) * d);
  SAE_RETURN_IF_ERROR(source.Next(rows));
  SAE_RETURN_IF_ERROR(engine.Initialise(rows));
  SAE_RETURN_IF_ERROR(source.Seek(0));
  rows.resize(static_cast<std::size_t>(c.trial.train.batch) * d);
  for (std::int64_t step = 0; step < c.steps; ++step) {
    SAE_RETURN_IF_ERROR(source.Next(rows));
    SAE_RETURN_IF_ERROR(engine.Step(rows));
    if (progress && ((step + 1) % kProgressSteps == 0 || step + 1 == c.steps)) progress(step + 1);
  }
  return absl::OkStatus();
}

absl::Status Evaluate(const RecoveryCase& c, data::SyntheticSource& source, Engine& engine,
                      RecoveryMetrics* out) {
  const auto d = static_cast<std::size_t>(source.d());
  const std::vector<float> origin(d, 0.0F);
  engine.BeginEvaluation(origin);
  std::vector<float> rows;
  double active = 0;
  for (std::int64_t done = 0; done < c.evaluation_rows;) {
    const std::int64_t count = std::min(c.trial.train.batch, c.evaluation_rows - done);
    for (std::int64_t r = 0; r < count; ++r) {
      const std::vector<float> truth = source.Amplitudes(source.Position() + r);
      active += static_cast<double>(
          std::count_if(truth.begin(), truth.end(), [](float a) { return a > 0; }));
    }
    rows.resize(static_cast<std::size_t>(count) * d);
    SAE_RETURN_IF_ERROR(source.Next(rows));
    SAE_RETURN_IF_ERROR(engine.EvaluateBatch(rows));
    done += count;
  }
  SAE_ASSIGN_OR_RETURN(auto heldout, engine.FinishEvaluation());
  (*out)["fvu"] = heldout.at("heldout.fvu");
  (*out)["l0"] = heldout.at("heldout.l0");
  (*out)["gamma"] = heldout.at("heldout.gamma");
  (*out)["true_l0"] = active / static_cast<double>(c.evaluation_rows);
  return absl::OkStatus();
}

absl::Status CompareDictionaries(const data::SyntheticSource& source, const model::State& state,
                                 ThreadPool& pool, RecoveryMetrics* out) {
  const eval::Dictionary truth{source.dictionary(), source.d()};
  const eval::Dictionary decoder{Tensor(state, "W_dec"), source.d()};
  const auto kind = eval::Cosine::kAbsolute;
  SAE_ASSIGN_OR_RETURN(const eval::Matching matching, MatchRows(truth, decoder, kind, pool));
  (*out)["mcc"] = matching.mean_cosine;
  (*out)["mmcs"] = NearestRows(truth, decoder, kind, pool).mean();
  (*out)["uniqueness"] = Uniqueness(NearestRows(decoder, truth, kind, pool));
  if (source.parents().size() < 2 || source.parents()[1] != 0) return absl::OkStatus();
  std::vector<float> mix(static_cast<std::size_t>(source.d()));
  const std::size_t d = mix.size();
  for (std::size_t c = 0; c < d; ++c) mix[c] = truth.rows[c] + truth.rows[d + c];
  (*out)["mixed"] = NearestRows({mix, source.d()}, decoder, kind, pool).cosine[0];
  const std::span<const float> encoder = Tensor(state, "W_enc");
  const eval::Dictionary parent{truth.rows.first(d), source.d()};
  const auto latent = static_cast<std::size_t>(NearestRows(parent, decoder, kind, pool).partner[0]);
  double along_child = 0;
  for (std::size_t c = 0; c < d; ++c)
    along_child += static_cast<double>(encoder[latent * d + c]) * truth.rows[d + c];
  (*out)["hole"] = along_child;
  return absl::OkStatus();
}

absl::StatusOr<RecoveryMetrics> RunSeed(const RecoveryCase& c, const std::string& scratch,
                                        ThreadPool& pool,
                                        const std::function<void(std::int64_t)>& progress) {
  SAE_ASSIGN_OR_RETURN(const data::SyntheticSpec data, data::ParseSyntheticSpec(c.data));
  SAE_ASSIGN_OR_RETURN(const auto source, data::SyntheticSource::Create(data.options));
  const std::unique_ptr<comm::Communicator> self = comm::CreateSelf();
  const config::TrialConfig trial = config::Resolve(c.trial, source->d());
  SAE_ASSIGN_OR_RETURN(const auto engine,
                       train::CreateEngine<float>(trial, source->d(), *self, pool));
  SAE_RETURN_IF_ERROR(Train(c, *source, *engine, progress));
  RecoveryMetrics metrics;
  SAE_RETURN_IF_ERROR(Evaluate(c, *source, *engine, &metrics));
  SAE_RETURN_IF_ERROR(CompareDictionaries(*source, engine->state(), pool, &metrics));
  SAE_RETURN_IF_ERROR(source->Seek(c.steps * c.trial.train.batch));
  SAE_RETURN_IF_ERROR(MeasureCodes(c, engine->state(), *self, *source, RealEnv(),
                                   scratch + "/" + c.name, pool, &metrics));
  return metrics;
}

/// The middle one, or the mean of the two in the middle.
double Median(std::vector<double> values) {
  std::sort(values.begin(), values.end());
  const std::size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

}  // namespace

absl::StatusOr<RecoveryMetrics> RunRecoveryCase(const RecoveryCase& c, const std::string& scratch,
                                                ThreadPool& pool,
                                                const std::function<void(std::int64_t)>& progress) {
  std::map<std::string, std::vector<double>> values;
  for (std::int64_t i = 0; i < c.seeds; ++i) {
    RecoveryCase one = c;
    one.trial.train.seed += i;
    SAE_ASSIGN_OR_RETURN(const RecoveryMetrics metrics,
                         RunSeed(one, scratch, pool, [&](std::int64_t steps) {
                           if (progress) progress(i * c.steps + steps);
                         }));
    for (const auto& [name, value] : metrics) values[name].push_back(value);
  }
  RecoveryMetrics out;
  for (auto& [name, all] : values) out[name] = Median(std::move(all));
  return out;
}

std::vector<RecoveryRun> RunRecoveryCases(
    const std::vector<RecoveryCase>& cases, int threads,
    const std::function<void(std::int64_t, std::int64_t)>& progress) {
  std::vector<RecoveryRun> out(cases.size());
  std::int64_t total = 0, done = 0;
  for (const RecoveryCase& c : cases) total += c.steps * c.seeds;
  const std::string scratch =
      (std::filesystem::temp_directory_path() / absl::StrCat("saeloom-recovery-", ::getpid()))
          .string();
  Mutex mu;  // of next and done
  std::size_t next = 0;
  ThreadPool workers(std::max(1, std::min(threads, static_cast<int>(cases.size()))));
  workers.ParallelFor(workers.size(), [&](std::int64_t, std::int64_t, int) {
    ThreadPool pool(1);
    for (;;) {
      std::size_t i = 0;
      {
        MutexLock lock(mu);
        if (next == cases.size()) return;
        i = next++;
      }
      std::int64_t before = 0;
      const absl::Duration start = RealClock().SinceBoot();
      auto metrics = RunRecoveryCase(cases[i], scratch, pool, [&](std::int64_t steps) {
        MutexLock lock(mu);
        done += steps - before;
        before = steps;
        if (progress) progress(done, total);
      });
      out[i].seconds = absl::ToDoubleSeconds(RealClock().SinceBoot() - start);
      out[i].status = metrics.status();
      if (metrics.ok()) out[i].metrics = *std::move(metrics);
    }
  });
  RealEnv().RemoveAll(scratch).IgnoreError();
  return out;
}

}  // namespace sae::client
