#pragma once
// Where a stream's messages go, whatever carries them. Thread-safe; calls after its end do nothing.

#include <vector>

#include "sae/base/status.h"

namespace sae::server {

template <typename T>
class Sink {
 public:
  virtual ~Sink() = default;
  /// `batch` (not empty) after what was given before. One batch at a time: the next when the reader
  /// has taken this one.
  virtual void Give(std::vector<T> batch) = 0;
  /// Ends the stream once all that was given is written. The first call counts.
  virtual void End(const absl::Status& status) = 0;
};

}  // namespace sae::server
