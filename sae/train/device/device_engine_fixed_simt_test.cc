// `reduction: fixed` on devices: the same bits at 1, 2 and 4 ranks, whole runs, evaluations and
// resumes at another number; and the run of the CPU engine with the same option.
#include <gtest/gtest.h>

#include "sae/train/device/device_engine_simt_testing.h"

namespace sae::train {
namespace {

using testing::DeviceRun;
using testing::ExpectSameBits;
using testing::RunVariant;
using testing::SavedState;

constexpr std::size_t kSteps = 6;
constexpr std::size_t kSaved = 3;

config::TrialConfig FixedConfig(const RunVariant& variant, std::int64_t ranks) {
  config::TrialConfig config = testing::ConfigOf(variant, ranks);
  config.train.reduction = "fixed";
  config.train.batch = 8;
  config.train.tokens = static_cast<double>(24 * config.train.batch);  // resampling after the 3rd
  config.sae.dead_after_tokens = 2 * config.train.batch;
  if (config.sae.resample == "on") {  // some die by then
    config.sae.l1_coefficient = 3;
    config.train.lr = 3e-2;
    config.train.lr_warmup_steps = config.train.sparsity_warmup_steps = 0;
  }
  return config;
}

/// Batches from `first` on, from `start` or from the first batch; the state before batch kSaved.
DeviceRun RunFixed(const config::TrialConfig& config, std::int64_t d_out, const SavedState* start,
                   std::size_t first, SavedState* saved) {
  const auto batches = testing::BatchesOf(config, d_out, kSteps);
  simt::SimtRuntime runtime({});
  std::vector<testing::StagedRank> staged(static_cast<std::size_t>(config.ranks));
  for (testing::StagedRank& rank : staged) rank.runtime = &runtime;
  DeviceRun out;
  Mutex mutex;
  const auto create = [&](comm::Communicator& ranks, ThreadPool& pool) {
    if (ranks.size() > 1) {
      return testing::CreateStaged(runtime, staged[static_cast<std::size_t>(ranks.rank())], config,
                                   testing::kRunWidth, d_out, ranks, pool);
    }
    DeviceParts parts;
    parts.runtime = &runtime;
    return DeviceEngine::Create(config, testing::kRunWidth, d_out, ranks, pool, parts);
  };
  const auto body = [&](comm::Communicator& ranks) -> absl::Status {
    ThreadPool pool(1);
    SAE_ASSIGN_OR_RETURN(std::unique_ptr<Engine<float>> engine, create(ranks, pool));
    if (start != nullptr) {
      testing::Restore(*start, *engine);
    } else {
      SAE_RETURN_IF_ERROR(engine->Initialise(batches[0]));
    }
    for (std::size_t t = first; t < batches.size(); ++t) {
      if (t == kSaved && saved != nullptr) {
        const model::State state = engine->state();
        MutexLock lock(mutex);
        testing::Save(state, saved);
      }
      SAE_RETURN_IF_ERROR(engine->Step(batches[t]));
      SAE_ASSIGN_OR_RETURN(const auto metrics, engine->LastMetrics());
      testing::Selection selected;
      if (t == 0) {
        SAE_ASSIGN_OR_RETURN(selected, engine->LastSelection());
      }
      if (ranks.rank() != 0) continue;
      out.losses.push_back(metrics.at("train.loss"));
      out.l0.push_back(metrics.at("train.l0"));
      if (metrics.contains("train.aux_loss")) out.aux.push_back(metrics.at("train.aux_loss"));
      if (config.train.clip > 0) out.norm = metrics.at("gradient_norm");
      if (t == 0) out.first = std::move(selected);
    }
    engine->BeginEvaluation(std::vector<float>(static_cast<std::size_t>(d_out), 0.4F));
    SAE_RETURN_IF_ERROR(
        engine->EvaluateBatch(std::span(batches.back()).first(batches.back().size() / 2)));
    SAE_ASSIGN_OR_RETURN(auto heldout, engine->FinishEvaluation());
    const model::State state = engine->state();
    MutexLock lock(mutex);
    testing::Save(state, &out.end);
    if (ranks.rank() == 0) out.heldout = std::move(heldout);
    return absl::OkStatus();
  };
  const absl::Status status = comm::RunInProcess(static_cast<int>(config.ranks), body);
  EXPECT_TRUE(status.ok()) << status;
  EXPECT_EQ(runtime.error(), "");
  return out;
}

std::vector<RunVariant> DeviceVariants() {
  static const std::set<std::string> plain = {"relu_l1", "gated", "jumprelu", "topk_fvu"};
  std::vector<RunVariant> out;
  for (const RunVariant& variant : testing::AllVariants()) {
    const bool another_has_all = plain.contains(variant.name);
    if (!another_has_all) out.push_back(variant);
  }
  const auto rounded = [](auto& c) { c.train.selection = "bf16"; };
  out.push_back({"topk_bf16_clip_int8", testing::Ranked("topk", 8, [=](auto& c) {
                   rounded(c);
                   c.train.clip = 0.2;
                   c.train.moments = "int8";
                 })});
  out.push_back({"batchtopk_bf16", testing::Ranked("batchtopk", 8, [=](auto& c) {
                   rounded(c);
                   c.train.moments = "bf16";
                 })});
  return out;
}

class DeviceFixedReduction : public ::testing::TestWithParam<RunVariant> {};
INSTANTIATE_TEST_SUITE_P(All, DeviceFixedReduction, ::testing::ValuesIn(DeviceVariants()),
                         testing::NameOf);

// Properties 12 and 16.
TEST_P(DeviceFixedReduction, AnyNumberOfRanksGivesTheSameBits) {
  const RunVariant& variant = GetParam();
  const config::TrialConfig config = FixedConfig(variant, 1);
  const DeviceRun one = RunFixed(config, variant.d_out, nullptr, 0, nullptr);
  if (config.train.selection != "bf16") {  // there the CPU rounds less
    testing::ExpectSameRun(one,
                           testing::RunOnCpu(config, testing::kRunWidth, variant.d_out,
                                             testing::BatchesOf(config, variant.d_out, kSteps)));
  }
  // What the variant is there for takes part.
  if (config.sae.aux_k.value_or(0) > 0) {
    EXPECT_GT(one.aux.back(), 0);
  }
  if (config.sae.resample == "on") {
    config::TrialConfig without = config;
    without.sae.resample = "off";
    EXPECT_NE(RunFixed(without, variant.d_out, nullptr, 0, nullptr).end.tensors, one.end.tensors);
  }
  SavedState middle;
  for (const std::int64_t ranks : {2, 4}) {
    SCOPED_TRACE(ranks);
    const DeviceRun many = RunFixed(FixedConfig(variant, ranks), variant.d_out, nullptr, 0,
                                    ranks == 2 ? &middle : nullptr);
    ExpectSameBits(one.end, many.end);
    EXPECT_EQ(one.first, many.first);
    EXPECT_EQ(one.losses, many.losses);
    EXPECT_EQ(one.l0, many.l0);
    EXPECT_EQ(one.aux, many.aux);
    EXPECT_EQ(one.norm, many.norm);
    EXPECT_EQ(one.heldout, many.heldout);
  }
  static const std::set<std::string> resumed_too = {
      "relu_lp",        "gated_clip_resample", "topk_lazy",
      "batchtopk_aux",  "matryoshka_aux_clip", "skip_transcoder_topk",
      "jumprelu_target"};
  if (!resumed_too.contains(variant.name)) return;
  // From the checkpoint of two ranks, at one and at four.
  for (const std::int64_t ranks : {1, 4}) {
    SCOPED_TRACE(::testing::Message() << "resumed at " << ranks);
    const DeviceRun resumed =
        RunFixed(FixedConfig(variant, ranks), variant.d_out, &middle, kSaved, nullptr);
    ExpectSameBits(one.end, resumed.end);
    EXPECT_EQ(one.losses.back(), resumed.losses.back());
    EXPECT_EQ(one.heldout, resumed.heldout);
  }
}

}  // namespace
}  // namespace sae::train
