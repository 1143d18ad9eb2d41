#pragma once
// The newest values of all trials of a sweep, before somebody orders them: the core keeps them once
// they were read, but reading those of a hundred thousand trials takes seconds, so it is done in
// slices between which others have the core's thread.

#include <string>

#include "server/core/core.h"

namespace sae::server {

struct ReadAhead {
  std::string sweep;  ///< bare
  std::size_t next = 0;
};

inline constexpr absl::Duration kReadAheadSlice = absl::Milliseconds(5);

/// On the core's thread: goes on for about `slice`. True when all is read, or there is nothing to
/// read, or it cannot be read: who asks for the values meets the error.
bool ReadSome(Core& core, Clock& clock, ReadAhead& reading, absl::Duration slice = kReadAheadSlice);

}  // namespace sae::server
