#include "sae/data/prefetch_source.h"

#include <algorithm>

namespace sae::data {
namespace {

// The sample of a run's start is much larger than a batch: its memory is not kept.
void Resize(std::vector<float>& v, std::int64_t size) {
  const auto wanted = static_cast<std::size_t>(size);
  if (v.size() != wanted) std::vector<float>(wanted).swap(v);
}

}  // namespace

PrefetchSource::PrefetchSource(ActivationSource& source)
    : source_(source), d_(source.d()), position_(source.Position()) {
  reader_ = std::thread([this] { ReadAhead(); });
}

PrefetchSource::~PrefetchSource() {
  {
    MutexLock lock(mu_);
    stop_ = true;
  }
  changed_.NotifyAll();
  reader_.join();
}

absl::Status PrefetchSource::Read(std::int64_t position, std::vector<float>& into) {
  if (source_.Position() != position) {
    SAE_RETURN_IF_ERROR(source_.Seek(position));
  }
  return source_.Next(into);
}

void PrefetchSource::ReadAhead() {
  while (true) {
    {
      MutexLock lock(mu_);
      while (!stop_ && state_ != State::kWanted) changed_.Wait(mu_);
      if (stop_) return;
      state_ = State::kReading;
    }
    status_ = Read(wanted_position_, back_);
    {
      MutexLock lock(mu_);
      state_ = State::kReady;
    }
    changed_.NotifyAll();
  }
}

void PrefetchSource::Drop() {
  MutexLock lock(mu_);
  while (state_ == State::kReading) changed_.Wait(mu_);
  state_ = State::kIdle;
}

void PrefetchSource::Expect(std::int64_t position, std::int64_t rows) {
  Drop();
  wanted_position_ = position;
  wanted_rows_ = rows;
  Resize(back_, rows * d_);
  {
    MutexLock lock(mu_);
    state_ = State::kWanted;
  }
  changed_.NotifyAll();
}

absl::StatusOr<std::span<const float>> PrefetchSource::View(std::int64_t rows,
                                                            std::vector<float>*) {
  bool ahead = false;
  {
    MutexLock lock(mu_);
    ahead = state_ != State::kIdle && wanted_position_ == position_ && wanted_rows_ == rows;
    while (ahead && state_ != State::kReady) changed_.Wait(mu_);
    if (ahead) state_ = State::kIdle;
  }
  if (ahead) {
    SAE_RETURN_IF_ERROR(status_);
    std::swap(front_, back_);
  } else {
    Drop();
    Resize(front_, rows * d_);
    SAE_RETURN_IF_ERROR(Read(position_, front_));
  }
  position_ += rows;
  return std::span<const float>(front_);
}

absl::Status PrefetchSource::Next(std::span<float> rows) {
  const auto values = static_cast<std::int64_t>(rows.size());
  if (values % d_ != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a batch of ", values, " values is not whole rows of ", d_));
  }
  SAE_ASSIGN_OR_RETURN(const auto view, View(values / d_, nullptr));
  std::copy(view.begin(), view.end(), rows.begin());
  return absl::OkStatus();
}

absl::Status PrefetchSource::Seek(std::int64_t position) {
  {
    MutexLock lock(mu_);
    if (state_ != State::kIdle && wanted_position_ == position) {
      position_ = position;
      return absl::OkStatus();
    }
  }
  Drop();
  SAE_RETURN_IF_ERROR(source_.Seek(position));
  position_ = position;
  return absl::OkStatus();
}

}  // namespace sae::data
