#include "sae/train/lease.h"

#include <charconv>
#include <cstdint>
#include <utility>

namespace sae::train {

LeaseFile::LeaseFile(Env& env, Clock& clock, std::string path, absl::Duration grace)
    : env_(env), clock_(clock), path_(std::move(path)), deadline_(clock.SinceBoot() + grace) {}

bool LeaseFile::Passed() {
  if (const absl::StatusOr<std::string> text = env_.Read(path_); text.ok()) {
    std::int64_t nanoseconds = 0;
    const char* end = text->data() + text->size();
    const auto [rest, error] = std::from_chars(text->data(), end, nanoseconds);
    if (error == std::errc() && nanoseconds > 0 && (rest == end || *rest == '\n')) {
      deadline_ = absl::Nanoseconds(nanoseconds);
    }
  }
  return clock_.SinceBoot() >= deadline_;
}

}  // namespace sae::train
