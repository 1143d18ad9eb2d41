#pragma once
// A source that reads the batch after this one on a thread of its own, into a second buffer, while
// the caller works on the first: what Expect names, one batch at a time. Whatever else is asked for
// is read on the caller's thread, so the rows are those of the source alone. Allocates nothing once
// batches have one size. One caller; borrows the source, which nobody else may use. An error while
// reading ahead is kept for the View that asks for these rows. The destructor waits for a read that
// is under way.

#include <cstdint>
#include <thread>
#include <vector>

#include "sae/base/mutex.h"
#include "sae/data/activation_source.h"

namespace sae::data {

class PrefetchSource final : public ActivationSource {
 public:
  explicit PrefetchSource(ActivationSource& source);
  ~PrefetchSource() override;
  PrefetchSource(const PrefetchSource&) = delete;
  PrefetchSource& operator=(const PrefetchSource&) = delete;

  std::int64_t d() const override { return d_; }
  [[nodiscard]] absl::Status Next(std::span<float> rows) override;
  [[nodiscard]] absl::StatusOr<std::span<const float>> View(std::int64_t rows,
                                                            std::vector<float>* room) override;
  void Expect(std::int64_t position, std::int64_t rows) override;
  std::int64_t Position() const override { return position_; }
  /// Of a position that is being read already; else the source's own.
  [[nodiscard]] absl::Status Seek(std::int64_t position) override;

 private:
  enum class State { kIdle, kWanted, kReading, kReady };

  void ReadAhead();
  /// On whichever thread holds the source.
  [[nodiscard]] absl::Status Read(std::int64_t position, std::vector<float>& into);
  /// Waits until the source is the caller's; drops what was read ahead.
  void Drop();

  ActivationSource& source_;
  const std::int64_t d_;
  std::int64_t position_;
  std::vector<float> front_;                            // what View gave out
  std::int64_t wanted_position_ = 0, wanted_rows_ = 0;  // written while idle

  Mutex mu_;
  CondVar changed_;
  State state_ ABSL_GUARDED_BY(mu_) = State::kIdle;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::vector<float> back_;  // the reader's while kReading, else the caller's
  absl::Status status_;      // likewise
  std::thread reader_;       // last: starts when the rest is there
};

}  // namespace sae::data
