#include "client/offline/recovery_codes.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <vector>

#include "sae/checkpoint/checkpoint.h"
#include "sae/checkpoint/load_sae.h"
#include "sae/eval/absorption.h"
#include "sae/eval/detection.h"
#include "sae/eval/dictionary_match.h"
#include "sae/eval/firing_statistics.h"
#include "sae/model/metrics.h"
#include "sae/model/sae.h"

namespace sae::client {
namespace {

constexpr auto kKind = eval::Cosine::kAbsolute;

absl::StatusOr<model::Sae> SaveAndLoad(const RecoveryCase& c, const model::State& state,
                                       comm::Communicator& self, std::int64_t d, Env& env,
                                       const std::string& scratch) {
  checkpoint::Info info;
  info.step = c.steps;
  info.tokens = c.steps * c.trial.train.batch;
  info.d = d;
  info.config = config::Resolve(c.trial, d);
  SAE_RETURN_IF_ERROR(checkpoint::MakeDirectory(env, scratch));
  SAE_ASSIGN_OR_RETURN(const std::string name,
                       checkpoint::SaveCheckpoint(env, self, scratch, state, info));
  return checkpoint::LoadSae(env, scratch + "/" + name);
}

/// Rows with the truth about them.
struct Batch {
  std::vector<float> x, truth;
  std::vector<std::uint8_t> parent, child;
};

class CodeMeter {
 public:
  CodeMeter(const data::SyntheticSource& source, const model::Sae& sae, ThreadPool& pool)
      : features_(static_cast<std::int64_t>(source.probabilities().size())),
        truth_{source.dictionary(), source.d()},
        decoder_{sae.w_dec, sae.d},
        reconstruction_(std::vector<double>(static_cast<std::size_t>(sae.d))),
        detection_(eval::NearestRows(decoder_, truth_, kKind, pool).partner, features_),
        firing_(sae.latents) {
    if (features_ < 2 || source.parents()[1] != 0) return;
    // S is the parent's nearest latent alone: a latent for parent and child together would pass for
    // a split of the parent by its F1, and hide what is looked for.
    const std::span<const float> parent = truth_.rows.first(static_cast<std::size_t>(sae.d));
    const auto nearest = eval::NearestRows({parent, sae.d}, decoder_, kKind, pool);
    absorption_.emplace(parent, nearest.partner, decoder_);
  }

  absl::Status Add(const Batch& batch, model::SaeRunner& runner) {
    SAE_ASSIGN_OR_RETURN(const auto* codes, runner.Encode(batch.x));
    x_hat_.resize(batch.x.size());
    SAE_RETURN_IF_ERROR(runner.Decode(*codes, batch.x, x_hat_));
    reconstruction_.Add(std::span<const float>(batch.x), std::span<const float>(x_hat_));
    detection_.Add(*codes, batch.truth);
    firing_.Add(*codes);
    if (absorption_) absorption_->Add(batch.x, *codes, batch.parent, batch.child);
    return absl::OkStatus();
  }

  void Finish(RecoveryMetrics* out) const {
    (*out)["saved_fvu"] = reconstruction_.Result().fvu;
    (*out)["dead"] =
        static_cast<double>(std::count(firing_.fires().begin(), firing_.fires().end(), 0));
    const eval::Detection mean = detection_.Mean();
    (*out)["precision"] = mean.precision;
    (*out)["recall"] = mean.recall;
    (*out)["f1"] = mean.f1;
    if (absorption_) (*out)["absorption"] = absorption_->Result().rate;
  }

 private:
  const std::int64_t features_;
  const eval::Dictionary truth_, decoder_;
  model::ReconstructionAccumulator reconstruction_;
  eval::DetectionAccumulator detection_;
  eval::FiringStatistics firing_;
  std::optional<eval::AbsorptionAccumulator> absorption_;
  std::vector<float> x_hat_;
};

absl::StatusOr<Batch> NextBatch(data::SyntheticSource& source, std::int64_t rows) {
  Batch b;
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::vector<float> truth = source.Amplitudes(source.Position() + r);
    bool child = false;
    for (std::size_t i = 0; i < truth.size(); ++i)
      child = child || (truth[i] > 0 && source.parents()[i] == 0);
    b.truth.insert(b.truth.end(), truth.begin(), truth.end());
    b.parent.push_back(truth[0] > 0 ? 1 : 0);
    b.child.push_back(child ? 1 : 0);
  }
  b.x.resize(static_cast<std::size_t>(rows * source.d()));
  SAE_RETURN_IF_ERROR(source.Next(b.x));
  return b;
}

}  // namespace

absl::Status MeasureCodes(const RecoveryCase& c, const model::State& state,
                          comm::Communicator& self, data::SyntheticSource& source, Env& env,
                          const std::string& scratch, ThreadPool& pool, RecoveryMetrics* out) {
  const auto loaded = SaveAndLoad(c, state, self, source.d(), env, scratch);
  SAE_RETURN_IF_ERROR(env.RemoveAll(scratch));
  SAE_RETURN_IF_ERROR(loaded.status());
  SAE_ASSIGN_OR_RETURN(const auto runner, model::SaeRunner::Create(*loaded, pool));
  CodeMeter meter(source, *loaded, pool);
  for (std::int64_t done = 0; done < c.evaluation_rows;) {
    const std::int64_t rows = std::min<std::int64_t>(1024, c.evaluation_rows - done);
    SAE_ASSIGN_OR_RETURN(const Batch batch, NextBatch(source, rows));
    SAE_RETURN_IF_ERROR(meter.Add(batch, *runner));
    done += rows;
  }
  meter.Finish(out);
  return absl::OkStatus();
}

}  // namespace sae::client
