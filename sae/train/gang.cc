#include "sae/train/gang.h"

#include <algorithm>
#include <thread>
#include <utility>

#include "sae/base/check.h"

namespace sae::train {

struct Gang::Trial {
  enum class State { kReady, kEncoder, kHeldout, kRows, kGone };
  int number = 0;
  State state = State::kReady;
  const kernels::BlockJob* job = nullptr;
  std::int64_t position = 0;  // in the stream; kHeldout: the first row
  std::int64_t count = 0;     // of rows
  std::span<float> room;      // kHeldout
  std::span<const float> rows;
  absl::Status status;
  CondVar wake;
  std::unique_ptr<Source> source;
  std::thread thread;
};

class Gang::Source final : public data::ActivationSource {
 public:
  Source(Gang& gang, Trial& trial) : gang_(gang), trial_(trial) {}
  std::int64_t d() const override { return gang_.options_.source->d(); }
  std::int64_t Position() const override { return position_; }

  absl::Status Next(std::span<float> rows) override {
    if (static_cast<std::int64_t>(rows.size()) % d() != 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("a batch of ", rows.size(), " values is not whole rows of ", d()));
    }
    SAE_ASSIGN_OR_RETURN(const auto view, View(static_cast<std::int64_t>(rows.size()) / d(), nullptr));
    std::copy(view.begin(), view.end(), rows.begin());
    return absl::OkStatus();
  }

  absl::StatusOr<std::span<const float>> View(std::int64_t rows, std::vector<float>*) override {
    trial_.state = Trial::State::kRows;
    trial_.position = position_;
    trial_.count = rows;
    gang_.Wait(trial_);
    SAE_RETURN_IF_ERROR(trial_.status);
    position_ += rows;
    return trial_.rows;
  }

  absl::Status Seek(std::int64_t position) override {
    if (position < 0) return absl::InvalidArgumentError(absl::StrCat("cannot seek to row ", position));
    position_ = position;
    return absl::OkStatus();
  }

 private:
  Gang& gang_;
  Trial& trial_;
  std::int64_t position_ = 0;
};

Gang::Gang(Options options) : options_(std::move(options)), engines_(*this) {
  for (int number = 0; number < options_.trials; ++number) {
    auto trial = std::make_unique<Trial>();
    trial->number = number;
    trial->source = std::make_unique<Source>(*this, *trial);
    trials_.push_back(std::move(trial));
  }
}

Gang::~Gang() = default;

data::ActivationSource& Gang::source(int trial) { return *trials_[static_cast<std::size_t>(trial)]->source; }

void Gang::Run(absl::FunctionRef<void(int)> body) {
  for (auto& trial : trials_) {
    trial->thread = std::thread([this, body, &trial = *trial] {
      {
        MutexLock lock(mu_);
        while (turn_ != trial.number) trial.wake.Wait(mu_);
      }
      body(trial.number);
      trial.state = Trial::State::kGone;
      MutexLock lock(mu_);
      turn_ = kNobody;
      waiting_.NotifyAll();
    });
  }
  do {
    for (auto& trial : trials_) {
      if (trial->state == Trial::State::kReady) LetRun(trial->number);
    }
  } while (ServeEncoders() || ServeHeldout() || ServeRows());
  for (auto& trial : trials_) trial->thread.join();
}

// Until it waits or is gone.
void Gang::LetRun(int trial) {
  MutexLock lock(mu_);
  turn_ = trial;
  trials_[static_cast<std::size_t>(trial)]->wake.NotifyAll();
  while (turn_ != kNobody) waiting_.Wait(mu_);
}

// The trial's thread: its state says for what.
void Gang::Wait(Trial& trial) {
  MutexLock lock(mu_);
  turn_ = kNobody;
  waiting_.NotifyAll();
  while (turn_ != trial.number) trial.wake.Wait(mu_);
}

void Gang::Run(const kernels::BlockJob& job, ThreadPool& pool) {
  SAE_CHECK_MSG(&pool == options_.pool, "%d threads: another pool than the gang's", pool.size());
  int turn = kNobody;
  {
    MutexLock lock(mu_);
    turn = turn_;
  }
  Trial& trial = *trials_[static_cast<std::size_t>(turn)];
  trial.state = Trial::State::kEncoder;
  trial.job = &job;
  Wait(trial);
}

bool Gang::ServeEncoders() {
  jobs_.clear();
  for (auto& trial : trials_) {
    if (trial->state != Trial::State::kEncoder) continue;
    jobs_.push_back(*trial->job);
    trial->state = Trial::State::kReady;
  }
  if (jobs_.empty()) return false;
  kernels::RunBlocks(jobs_, *options_.pool);
  ++counts_.passes;
  counts_.encoders += static_cast<std::int64_t>(jobs_.size());
  return true;
}

absl::Status Gang::ReadHeldout(int number, std::int64_t first, std::span<float> rows) {
  Trial& trial = *trials_[static_cast<std::size_t>(number)];
  trial.state = Trial::State::kHeldout;
  trial.position = first;
  trial.room = rows;
  Wait(trial);
  return trial.status;
}

bool Gang::ServeHeldout() {
  const Trial* next = nullptr;
  for (const auto& trial : trials_) {
    if (trial->state != Trial::State::kHeldout) continue;
    if (next == nullptr || trial->position < next->position) next = trial.get();
  }
  if (next == nullptr) return false;
  const std::int64_t first = next->position;
  const std::size_t size = next->room.size();
  heldout_.resize(std::max(heldout_.size(), size));
  const std::span<float> rows(heldout_.data(), size);
  const absl::Status status = options_.read_heldout(first, rows);
  ++counts_.heldout;
  for (auto& trial : trials_) {
    if (trial->state != Trial::State::kHeldout || trial->position != first || trial->room.size() != size) continue;
    trial->status = status;
    if (status.ok()) std::copy(rows.begin(), rows.end(), trial->room.begin());
    trial->state = Trial::State::kReady;
  }
  return true;
}

// Nobody looks at the rows before them any more: all wait for others.
bool Gang::ServeRows() {
  const Trial* next = nullptr;
  for (const auto& trial : trials_) {
    if (trial->state != Trial::State::kRows) continue;
    if (next == nullptr || trial->position < next->position) next = trial.get();
  }
  if (next == nullptr) return false;
  const std::int64_t position = next->position, count = next->count;
  data::ActivationSource& source = *options_.source;
  const auto size = static_cast<std::size_t>(count * source.d());
  // The sample of the start is much larger than a batch: its memory is not kept.
  if (rows_.size() != size) kernels::AlignedVector<float>(size).swap(rows_);
  absl::Status status;
  if (source.Position() != position) status = source.Seek(position);
  if (status.ok()) status = source.Next(rows_);
  ++counts_.batches;
  const std::span<const float> rows(rows_);
  engines_.Announce(rows);
  for (auto& trial : trials_) {
    if (trial->state != Trial::State::kRows || trial->position != position || trial->count != count) continue;
    trial->status = status;
    trial->rows = rows;
    trial->state = Trial::State::kReady;
  }
  return true;
}

}  // namespace sae::train
