#pragma once
// For this folder's tests: a source whose rows are a function of their number, an engine that keeps a tally of
// what it was fed, and a rig that runs a Trainer over either engine on one or more in-process ranks.

#include <spdlog/spdlog.h>

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "sae/base/mutex.h"
#include "sae/base/random.h"
#include "sae/config/events.h"
#include "sae/train/trainer.h"
#include "tests/support/temp_dir.h"

namespace sae::train {

class CountedSource final : public data::ActivationSource {
 public:
  explicit CountedSource(std::int64_t width) : d_(width) {}
  std::int64_t d() const override { return d_; }
  absl::Status Next(std::span<float> rows) override {
    for (float& v : rows) {
      const auto row = static_cast<std::uint64_t>(value_ / d_);
      Random random(HashCounter(7, row, static_cast<std::uint64_t>(value_ % d_)));
      v = static_cast<float>(random.Normal());
      ++value_;
    }
    if (fail_at >= 0 && value_ / d_ > fail_at) return absl::DataLossError("shard-00003.safetensors: hash");
    return absl::OkStatus();
  }
  std::int64_t Position() const override { return value_ / d_; }
  absl::Status Seek(std::int64_t position) override {
    value_ = position * d_;
    return absl::OkStatus();
  }
  std::int64_t fail_at = -1;

 private:
  std::int64_t d_;
  std::int64_t value_ = 0;
};

class TallyEngine final : public Engine<float> {
 public:
  TallyEngine(const config::TrialConfig& config, std::int64_t width, comm::Communicator& communicator, FakeClock& clock)
      : config_(config), clock_(clock), d_(width),
        shard_(model::ShardOf(config.sae.latents, communicator.size(), communicator.rank())),
        weights_(static_cast<std::size_t>(shard_.count), 0.F) {}

  std::int64_t row_width() const override { return d_; }
  absl::Status Initialise(std::span<const float> sample) override {
    sample_rows = static_cast<std::int64_t>(sample.size()) / d_;
    scale_ = 2;
    return absl::OkStatus();
  }
  absl::Status Step(std::span<const float> rows) override {
    if (scale_ == 0) return absl::FailedPreconditionError("neither initialised nor loaded");
    for (float& w : weights_) w = 0.5F * w + rows.front() + rows.back();
    ++step_;
    tokens_ += config_.train.batch;
    clock_.Advance(step_time);
    if (step_ == diverge_at) return absl::FailedPreconditionError(absl::StrCat("step ", step_, ": the loss is nan"));
    if (on_step) on_step(step_);
    return absl::OkStatus();
  }
  absl::StatusOr<std::map<std::string, double>> LastMetrics() override {
    return std::map<std::string, double>{{"train.loss", weights_.front()}, {"train.fvu", 0.5}};
  }
  std::optional<double> LastExchangeMs() const override { return exchange_ms; }
  void BeginEvaluation(std::span<const float> mean) override {
    evaluated_ = 0;
    mean_size = static_cast<std::int64_t>(mean.size());
  }
  absl::Status EvaluateBatch(std::span<const float> rows) override {
    evaluated_ += static_cast<std::int64_t>(rows.size()) / d_;
    return absl::OkStatus();
  }
  absl::StatusOr<std::map<std::string, double>> FinishEvaluation() override {
    return std::map<std::string, double>{{"heldout.fvu", static_cast<double>(evaluated_)}};
  }
  absl::StatusOr<std::vector<std::vector<std::int64_t>>> LastSelection() override {
    return std::vector<std::vector<std::int64_t>>{};
  }
  std::int64_t step() const override { return step_; }
  std::int64_t tokens() const override { return tokens_; }
  model::State state() override {
    return {shard_, {{"W", DType::kF32, {shard_.count}, weights_.data(), true}},
            {{"step", &step_}, {"tokens", &tokens_}, {"input_scale", &scale_}}};
  }
  absl::Status StateLoaded() override { return absl::OkStatus(); }
  void set_dense_density(double) override {}

  const std::vector<float>& weights() const { return weights_; }
  std::int64_t diverge_at = -1;
  absl::Duration step_time = absl::Seconds(1);
  std::optional<double> exchange_ms;
  std::int64_t sample_rows = 0;
  std::int64_t mean_size = 0;
  std::function<void(std::int64_t)> on_step;

 private:
  config::TrialConfig config_;
  FakeClock& clock_;
  std::int64_t d_;
  model::LatentShard shard_;
  std::vector<float> weights_;
  std::int64_t step_ = 0, tokens_ = 0, evaluated_ = 0;
  double scale_ = 0;
};

/// What one call of Trainer::Run needs, and what a test wants to reach.
struct Rig {
  explicit Rig(const std::string& checkpoints_folder) {
    spdlog::set_level(spdlog::level::err);
    options.config.ranks = 1;
    options.config.sae.latents = 12;
    options.config.sae.k = 2;
    options.config.train.tokens = 80;
    options.config.train.batch = 4;
    options.config.train.log_every_steps = 5;
    options.config.train.checkpoint_every_seconds = 0;
    options.config.train.eval_every_tokens = 32;
    options.checkpoints = checkpoints_folder;
    options.store_hash = "xxh3:1";
    options.instruction_set = "test";
    options.sample_rows = 16;
    options.heldout_rows = 10;
    options.read_heldout = [](std::int64_t, std::span<float> rows) {
      std::fill(rows.begin(), rows.end(), 1.F);
      return absl::OkStatus();
    };
    options.mean.assign(kWidth, 0.F);
  }
  static constexpr std::int64_t kWidth = 3;

  TrainerOptions options;
  Env* env = &RealEnv();
  FakeClock clock;
  /// Each rank has a clock of its own in place of `clock`.
  bool own_clocks = false;
  /// Called for each rank's engine and source before the run.
  std::function<void(TallyEngine&, CountedSource&, int rank)> prepare;
  /// Called after the run, one rank at a time.
  std::function<void(TallyEngine&, int rank)> inspect;
  Mutex inspect_mu;
  std::function<StopReason(int rank, std::int64_t step)> stop;

  /// Over `ranks` in-process ranks; rank 0's events go to `events`.
  absl::StatusOr<Outcome> Run(int ranks, const std::string& events) {
    options.config.ranks = ranks;
    Outcome outcome = Outcome::kFinished;
    const absl::Status status = comm::RunInProcess(ranks, [&](comm::Communicator& c) -> absl::Status {
      FakeClock own;
      FakeClock& time = own_clocks ? own : clock;
      TallyEngine engine(options.config, kWidth, c, time);
      CountedSource source(kWidth);
      if (prepare) prepare(engine, source, c.rank());
      std::unique_ptr<EventWriter> writer;
      if (c.rank() == 0) {
        SAE_ASSIGN_OR_RETURN(writer, EventWriter::Open(RealEnv(), time, events));
      }
      TrainerParts parts;
      parts.env = env;
      parts.clock = &time;
      parts.communicator = &c;
      parts.engine = &engine;
      parts.source = &source;
      parts.events = writer.get();
      parts.stop_requested = [&] { return stop ? stop(c.rank(), engine.step()) : StopReason::kNone; };
      parts.progress = [] {};
      Trainer trainer(std::move(parts), options);
      SAE_ASSIGN_OR_RETURN(const Outcome mine, trainer.Run());
      if (c.rank() == 0) outcome = mine;
      if (inspect) {
        MutexLock lock(inspect_mu);
        inspect(engine, c.rank());
      }
      return absl::OkStatus();
    });
    if (!status.ok()) return status;
    return outcome;
  }
};

inline std::vector<config::Event> ReadEvents(const std::string& path) {
  std::vector<config::Event> out;
  const absl::StatusOr<std::string> read = RealEnv().Read(path);
  const std::string text = read.ok() ? *read : "";
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1) {
    out.push_back(config::ParseEvent(text.substr(begin, end - begin)).value());
  }
  return out;
}

inline std::vector<std::int64_t> StepsOf(const std::vector<config::Event>& events, config::EventKind kind) {
  std::vector<std::int64_t> out;
  for (const config::Event& e : events) {
    if (e.kind == kind) out.push_back(e.step);
  }
  return out;
}

}  // namespace sae::train
