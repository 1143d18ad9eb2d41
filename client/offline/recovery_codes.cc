#include "client/offline/recovery_codes.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "sae/checkpoint/checkpoint.h"
#include "sae/checkpoint/load_sae.h"
#include "sae/eval/absorption.h"
#include "sae/eval/detection.h"
#include "sae/eval/dictionary_match.h"
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
      : sae_(sae),
        features_(static_cast<std::int64_t>(source.probabilities().size())),
        truth_{source.dictionary(), source.d()},
        decoder_{sae.w_dec, sae.d},
        reconstruction_(std::vector<double>(static_cast<std::size_t>(sae.d))),
        detection_(eval::NearestRows(decoder_, truth_, kKind, pool).partner, features_) {
    if (features_ > 1 && source.parents()[1] == 0) {
      parent_latent_ =
          eval::NearestRows({truth_.rows.first(static_cast<std::size_t>(sae.d)), sae.d}, decoder_,
                            kKind, pool)
              .partner[0];
    }
  }

  absl::Status Add(const Batch& batch, model::SaeRunner& runner) {
    SAE_ASSIGN_OR_RETURN(const auto* codes, runner.Encode(batch.x));
    x_hat_.resize(batch.x.size());
    SAE_RETURN_IF_ERROR(runner.Decode(*codes, batch.x, x_hat_));
    reconstruction_.Add(std::span<const float>(batch.x), std::span<const float>(x_hat_));
    detection_.Add(*codes, batch.truth);
    if (parent_latent_ < 0) return absl::OkStatus();
    batches_.push_back(batch);
    codes_.push_back(*codes);
    return absl::OkStatus();
  }

  void Finish(RecoveryMetrics* out) const {
    (*out)["saved_fvu"] = reconstruction_.Result().fvu;
    const eval::Detection mean = detection_.Mean();
    (*out)["precision"] = mean.precision;
    (*out)["recall"] = mean.recall;
    (*out)["f1"] = mean.f1;
    if (parent_latent_ >= 0) (*out)["absorption"] = Absorption();
  }

 private:
  double Absorption() const {
    std::int64_t rows = 0, row = 0;
    for (const Batch& b : batches_) rows += static_cast<std::int64_t>(b.parent.size());
    std::vector<std::uint8_t> fires(static_cast<std::size_t>(sae_.latents * rows)), parent;
    for (std::size_t i = 0; i < batches_.size(); ++i) {
      const kernels::Codes<float>& codes = codes_[i];
      for (std::size_t b = 0; b < static_cast<std::size_t>(codes.tokens); ++b, ++row) {
        for (auto e = codes.indptr[b]; e < codes.indptr[b + 1]; ++e)
          fires[static_cast<std::size_t>(codes.ids[static_cast<std::size_t>(e)] * rows + row)] = 1;
        parent.push_back(batches_[i].parent[b]);
      }
    }
    const std::vector<std::int64_t> own =
        eval::SplitLatents(fires, sae_.latents, parent, parent_latent_);
    eval::AbsorptionAccumulator absorption(truth_.rows.first(static_cast<std::size_t>(sae_.d)), own,
                                           decoder_);
    for (std::size_t i = 0; i < batches_.size(); ++i)
      absorption.Add(batches_[i].x, codes_[i], batches_[i].parent, batches_[i].child);
    return absorption.Result().rate;
  }

  const model::Sae& sae_;
  const std::int64_t features_;
  const eval::Dictionary truth_, decoder_;
  model::ReconstructionAccumulator reconstruction_;
  eval::DetectionAccumulator detection_;
  std::int64_t parent_latent_ = -1;
  std::vector<float> x_hat_;
  std::vector<Batch> batches_;
  std::vector<kernels::Codes<float>> codes_;
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
