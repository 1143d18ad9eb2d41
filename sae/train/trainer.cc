// Order of one turn: decide (one collective: stop, checkpoint, errors) -> step -> metrics -> evaluation -> next
// batch. The batch is read before the decision, so that a rank's failed read is known to all before they step;
// a checkpoint keeps the position before that batch.
#include "sae/train/trainer.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cmath>
#include <utility>

#include "sae/checkpoint/agree.h"
#include "sae/train/same_run.h"

namespace sae::train {
namespace {

constexpr absl::Duration kLogEvery = absl::Seconds(5);

bool IsTransport(const absl::Status& status) {
  return absl::IsAborted(status) || absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status);
}

double ValueOr(const std::map<std::string, double>& values, const std::string& name) {
  const auto it = values.find(name);
  return it == values.end() ? std::nan("") : it->second;
}

}  // namespace

Trainer::Trainer(TrainerParts parts, TrainerOptions options)
    : parts_(std::move(parts)), options_(std::move(options)), total_steps_(config::TotalSteps(options_.config)) {
  if (options_.d == 0) options_.d = parts_.source->d();
  options_.heldout_rows = std::min(options_.heldout_rows, kMaxHeldoutRows);
  options_.sample_rows = std::min(options_.sample_rows, kMaxSampleRows);
}

absl::StatusOr<Outcome> Trainer::Run() {
  SAE_RETURN_IF_ERROR(Begin());
  last_save_ = parts_.clock->SinceBoot();
  last_log_ = last_save_;
  if (parts_.engine->step() < total_steps_) ReadBatch();
  while (parts_.engine->step() < total_steps_) {
    SAE_ASSIGN_OR_RETURN(const Decision decision, Decide());
    if (decision.stop != StopReason::kNone) return Yield(decision.stop);
    if (decision.checkpoint) {
      SAE_RETURN_IF_ERROR(SavePeriodic());
    }
    SAE_RETURN_IF_ERROR(TrainOneStep());
  }
  return Finish();
}

absl::Status Trainer::Begin() {
  SAE_ASSIGN_OR_RETURN(const checkpoint::Latest latest,
                       checkpoint::FindLatest(*parts_.env, *parts_.communicator, options_.checkpoints));
  absl::Status tidy;
  if (root()) tidy = checkpoint::CleanUp(*parts_.env, options_.checkpoints, latest.damaged);
  SAE_RETURN_IF_ERROR(checkpoint::Agree(*parts_.communicator, tidy));
  parts_.progress();
  if (latest.name.empty()) {
    SAE_RETURN_IF_ERROR(Initialise());
  } else {
    SAE_RETURN_IF_ERROR(Resume(latest));
  }
  Emit(config::EventKind::kStarted, [&](config::Event& e) {
    e.from_step = e.step;
    e.message = absl::StrCat(parts_.communicator->size(), " ranks, instruction set ", options_.instruction_set);
    e.checkpoint = latest.name;
  });
  for (const std::string& warning : latest.warnings) Warn(warning, "read");
  if (!latest.name.empty()) {
    for (const std::string& w : Differences(latest.manifest, options_)) Warn(w);
  }
  if (options_.heldout_rows == 0) Warn("the store has no held-out rows: there will be no evaluation");
  parts_.progress();
  return absl::OkStatus();
}

absl::Status Trainer::Resume(const checkpoint::Latest& latest) {
  SAE_RETURN_IF_ERROR(CheckSameRun(latest.manifest, options_, options_.d));
  const std::string folder = options_.checkpoints + "/" + latest.name;
  SAE_RETURN_IF_ERROR(checkpoint::LoadCheckpoint(*parts_.env, *parts_.communicator, folder, latest.manifest,
                                                 parts_.engine->state()));
  SAE_RETURN_IF_ERROR(checkpoint::Agree(*parts_.communicator, parts_.engine->StateLoaded()));
  position_ = next_position_ = latest.manifest.info.data_position;
  SAE_RETURN_IF_ERROR(checkpoint::Agree(*parts_.communicator, parts_.source->Seek(position_)));
  saved_step_ = latest.manifest.info.step;
  if (root()) spdlog::info("{}goes on from {}", options_.label, folder);
  return absl::OkStatus();
}

absl::Status Trainer::Initialise() {
  std::vector<float> room;
  const auto sample = parts_.source->View(std::max<std::int64_t>(1, options_.sample_rows), &room);
  const absl::Status read = sample.ok() ? parts_.source->Seek(0) : sample.status();
  SAE_RETURN_IF_ERROR(checkpoint::Agree(*parts_.communicator, read));
  parts_.progress();
  SAE_RETURN_IF_ERROR(checkpoint::Agree(*parts_.communicator, parts_.engine->Initialise(*sample)));
  position_ = next_position_ = 0;
  return absl::OkStatus();
}

void Trainer::ReadBatch() {
  const absl::Duration start = parts_.clock->SinceBoot();
  position_ = next_position_;
  next_position_ += options_.config.train.batch;
  pending_.Update(ReadOwnPart(position_));
  data_seconds_ += absl::ToDoubleSeconds(parts_.clock->SinceBoot() - start);
}

// Of the rows from `position` on those that this replica takes.
absl::Status Trainer::ReadOwnPart(std::int64_t position) {
  const std::int64_t rows = options_.config.train.batch / parts_.engine->replicas();
  const std::int64_t first = position + parts_.engine->replica() * rows;
  if (parts_.source->Position() != first) {
    SAE_RETURN_IF_ERROR(parts_.source->Seek(first));
  }
  SAE_ASSIGN_OR_RETURN(batch_, parts_.source->View(rows, &room_));
  if (parts_.engine->step() + 1 < total_steps_)
    parts_.source->Expect(first + options_.config.train.batch, rows);
  return absl::OkStatus();
}

absl::StatusOr<Trainer::Decision> Trainer::Decide() {
  std::int32_t flags[3] = {static_cast<std::int32_t>(parts_.stop_requested()), 0, pending_.ok() ? 0 : 1};
  const double every = options_.config.train.checkpoint_every_seconds;
  if (root() && every > 0 && parts_.engine->step() != saved_step_ &&
      parts_.clock->SinceBoot() - last_save_ >= absl::Seconds(every)) {
    flags[1] = 1;
  }
  SAE_RETURN_IF_ERROR(parts_.communicator->AllReduce(flags, 3, DType::kI32, comm::ReduceOp::kMax));
  if (flags[2] != 0) {
    SAE_RETURN_IF_ERROR(checkpoint::Agree(*parts_.communicator, pending_));
  }
  return Decision{static_cast<StopReason>(flags[0]), flags[1] != 0};
}

absl::Status Trainer::TrainOneStep() {
  const absl::Duration start = parts_.clock->SinceBoot();
  SAE_RETURN_IF_ERROR(parts_.engine->Step(batch_));
  step_seconds_ += absl::ToDoubleSeconds(parts_.clock->SinceBoot() - start);
  exchange_seconds_ += parts_.engine->LastExchangeMs().value_or(0) / 1e3;
  ++steps_;
  parts_.progress();
  const std::int64_t step = parts_.engine->step();
  const bool last = step >= total_steps_;
  if (last || step % options_.config.train.log_every_steps == 0) {
    SAE_RETURN_IF_ERROR(ReportMetrics());
  }
  if (last) return absl::OkStatus();
  if (EvaluationDue()) {
    SAE_RETURN_IF_ERROR(Evaluate());
  }
  ReadBatch();
  return absl::OkStatus();
}

bool Trainer::EvaluationDue() const {
  const double every = *options_.config.train.eval_every_tokens;
  const auto tokens = static_cast<double>(parts_.engine->tokens());
  const auto before = tokens - static_cast<double>(options_.config.train.batch);
  return std::floor(tokens / every) > std::floor(before / every);
}

absl::Status Trainer::ReportMetrics() {
  SAE_ASSIGN_OR_RETURN(auto values, parts_.engine->LastMetrics());
  const double seconds = data_seconds_ + step_seconds_;
  const auto steps = static_cast<double>(steps_);
  if (seconds > 0) {
    values["tokens_per_second"] = steps * static_cast<double>(options_.config.train.batch) / seconds;
  }
  values["ms.data"] = 1e3 * data_seconds_ / steps;
  values["ms.step"] = 1e3 * step_seconds_ / steps;
  SAE_RETURN_IF_ERROR(AddStraggler(&values));
  data_seconds_ = step_seconds_ = exchange_seconds_ = 0;
  steps_ = 0;
  if (root()) LogProgress(values);
  Emit(config::EventKind::kMetrics, [&](config::Event& e) { e.values = std::move(values); });
  return absl::OkStatus();
}

// All ranks take a step together, so only the time outside collectives tells who is late.
absl::Status Trainer::AddStraggler(std::map<std::string, double>* values) {
  if (parts_.communicator->size() == 1 || !parts_.engine->LastExchangeMs()) return absl::OkStatus();
  const double own = std::max(0.0, data_seconds_ + step_seconds_ - exchange_seconds_);
  std::vector<double> all(static_cast<std::size_t>(parts_.communicator->size()));
  SAE_RETURN_IF_ERROR(parts_.communicator->AllGather(std::span(&own, 1), std::span(all)));
  const auto [fastest, slowest] = std::minmax_element(all.begin(), all.end());
  if (*slowest <= 0) return absl::OkStatus();
  (*values)["straggler.score"] = *fastest / *slowest;
  (*values)["straggler.rank"] = static_cast<double>(slowest - all.begin());
  return absl::OkStatus();
}

absl::Status Trainer::Evaluate() {
  if (options_.heldout_rows == 0) return absl::OkStatus();
  const std::int64_t d = parts_.source->d();
  const std::int64_t batch = std::min(options_.config.train.batch, options_.heldout_rows);
  std::vector<float> rows(static_cast<std::size_t>(batch * d));
  parts_.engine->BeginEvaluation(options_.mean);
  for (std::int64_t first = 0; first < options_.heldout_rows; first += batch) {
    const std::int64_t count = std::min(batch, options_.heldout_rows - first);
    const std::span<float> part = std::span(rows).first(static_cast<std::size_t>(count * d));
    SAE_RETURN_IF_ERROR(checkpoint::Agree(*parts_.communicator, options_.read_heldout(first, part)));
    SAE_RETURN_IF_ERROR(parts_.engine->EvaluateBatch(part));
    parts_.progress();
  }
  SAE_ASSIGN_OR_RETURN(evaluation_, parts_.engine->FinishEvaluation());
  evaluation_["heldout.rows"] = static_cast<double>(options_.heldout_rows);
  if (root()) {
    spdlog::info("{}step {}: held-out fvu {:.4f}, l0 {:.1f}, dead {:.1f}%, on {} rows", options_.label, parts_.engine->step(),
                 ValueOr(evaluation_, "heldout.fvu"), ValueOr(evaluation_, "heldout.l0"),
                 100 * ValueOr(evaluation_, "heldout.dead_fraction"), options_.heldout_rows);
  }
  Emit(config::EventKind::kEvaluation, [&](config::Event& e) { e.values = evaluation_; });
  return absl::OkStatus();
}

absl::StatusOr<std::string> Trainer::Write(int keep) {
  SAE_RETURN_IF_ERROR(checkpoint::Agree(*parts_.communicator, parts_.engine->Settle()));
  checkpoint::Info info;
  info.step = parts_.engine->step();
  info.tokens = parts_.engine->tokens();
  info.d = options_.d;
  info.data_position = position_;
  info.config = options_.config;
  info.store = options_.store;
  info.store_hash = options_.store_hash;
  info.instruction_set = options_.instruction_set;
  info.source = options_.source;
  comm::Communicator* owners = parts_.engine->owners();
  return checkpoint::SaveCheckpoint(
      *parts_.env, owners == nullptr ? *parts_.communicator : *owners, options_.checkpoints, parts_.engine->state(), info, {keep, options_.writer});
}

absl::Status Trainer::Save(int keep, const std::string& then) {
  if (saved_step_ == parts_.engine->step()) return absl::OkStatus();
  const absl::Duration start = parts_.clock->SinceBoot();
  const absl::StatusOr<std::string> name = Write(keep);
  last_save_ = parts_.clock->SinceBoot();
  if (!name.ok()) {
    if (!IsTransport(name.status())) Warn(absl::StrCat(Message(name.status()), "; ", then), "write");
    return name.status();
  }
  saved_step_ = parts_.engine->step();
  parts_.progress();
  Emit(config::EventKind::kCheckpoint, [&](config::Event& e) {
    e.checkpoint = *name;
    e.values["ms.save"] = absl::ToDoubleMilliseconds(last_save_ - start);
    const auto manifest = checkpoint::ReadManifest(*parts_.env, absl::StrCat(options_.checkpoints, "/", *name));
    if (manifest.ok()) e.values["bytes.save"] = static_cast<double>(manifest->Bytes());
  });
  return absl::OkStatus();
}

// A full disk costs the run nothing yet: it goes on, and says so.
absl::Status Trainer::SavePeriodic() {
  const absl::Status status = Save(options_.keep_checkpoints, "the run goes on without it");
  return IsTransport(status) ? status : absl::OkStatus();
}

absl::StatusOr<Outcome> Trainer::Yield(StopReason reason) {
  // After the lease another attempt may use the folder: nothing of it is removed then.
  const absl::Status saved = Save(reason == StopReason::kLease ? 0 : options_.keep_checkpoints, "the run yields without it");
  if (IsTransport(saved)) return saved;
  Emit(config::EventKind::kYielded, [&](config::Event& e) {
    e.message = ToText(reason);
    if (saved_step_ >= 0) e.checkpoint = checkpoint::StepName(saved_step_);
    if (!saved.ok()) absl::StrAppend(&e.message, "; ", Message(saved));
  });
  if (root()) spdlog::info("{}yields at step {}: {}", options_.label, parts_.engine->step(), ToText(reason));
  SAE_RETURN_IF_ERROR(checkpoint::Agree(*parts_.communicator, pending_));
  SAE_RETURN_IF_ERROR(parts_.communicator->Barrier());
  return Outcome::kYielded;
}

absl::StatusOr<Outcome> Trainer::Finish() {
  // The checkpoint comes first: an attempt that goes on from it evaluates again, so the values are not lost
  // with a worker that dies in between.
  position_ = next_position_;
  SAE_RETURN_IF_ERROR(Save(options_.keep_checkpoints, "the run fails"));
  SAE_RETURN_IF_ERROR(Evaluate());
  Emit(config::EventKind::kFinished, [&](config::Event& e) { e.values = evaluation_; });
  SAE_RETURN_IF_ERROR(checkpoint::Agree(*parts_.communicator, pending_));
  SAE_RETURN_IF_ERROR(parts_.communicator->Barrier());
  return Outcome::kFinished;
}

void Trainer::Emit(config::EventKind kind, const std::function<void(config::Event&)>& fill) {
  if (!root()) return;
  config::Event event;
  event.kind = kind;
  event.step = parts_.engine->step();
  event.tokens = parts_.engine->tokens();
  if (fill) fill(event);
  pending_.Update(parts_.events->Append(std::move(event)));
}

void Trainer::Warn(const std::string& message, const std::string& failed) {
  if (root()) spdlog::warn("{}{}", options_.label, message);
  Emit(config::EventKind::kWarning, [&](config::Event& e) {
    e.message = message;
    e.failed = failed;
  });
}

void Trainer::LogProgress(const std::map<std::string, double>& values) {
  const absl::Duration now = parts_.clock->SinceBoot();
  const std::int64_t step = parts_.engine->step();
  if (now - last_log_ < kLogEvery && step < total_steps_) return;
  last_log_ = now;
  const double rate = ValueOr(values, "tokens_per_second");
  const double left = static_cast<double>((total_steps_ - step) * options_.config.train.batch) / rate;
  spdlog::info("{}step {} of {}: loss {:.5g}, fvu {:.4f}, l0 {:.1f}, dead {:.1f}%, {:.0f} tokens/s, {:.0f} s left",
               options_.label, step,
               total_steps_, ValueOr(values, "train.loss"), ValueOr(values, "train.fvu"), ValueOr(values, "train.l0"),
               100 * ValueOr(values, "train.dead_fraction"), rate, std::isfinite(left) ? left : 0.0);
}

}  // namespace sae::train
