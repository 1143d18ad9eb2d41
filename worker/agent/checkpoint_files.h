#pragma once
// Checkpoints of a trial as files: TRIAL/checkpoints/NAME, which the trainer writes and may remove,
// and TRIAL/kept/NAME, which only the coordinator's word removes. A folder under its own name is
// whole or does not exist: it is filled and emptied under another. Every call may be repeated after
// a crash at any point. Blocking; not for two threads at once on one trial. Errors: those of Env.

#include <cstdint>
#include <functional>
#include <string>

#include "sae/base/env.h"
#include "sae/base/status.h"

namespace saeloom::agent {

/// Makes `to` another name of the file `from`; false when it cannot.
using LinkFile = std::function<bool(const std::string& from, const std::string& to)>;
bool HardLink(const std::string& from, const std::string& to);

/// Bytes of a checkpoint that has all the files which its manifest names, with their sizes.
/// DATA_LOSS else.
[[nodiscard]] absl::StatusOr<std::int64_t> WholeBytes(sae::Env& env, const std::string& folder);

/// Makes `folder` hold every file of `from`, by hard links or, where links cannot be, by copies.
[[nodiscard]] absl::Status FillFolder(sae::Env& env, const std::string& from,
                                      const std::string& folder, const LinkFile& link);

/// Links TRIAL/checkpoints/NAME to TRIAL/kept/NAME; returns its bytes. Nothing to do when it is
/// there. NOT_FOUND when it is whole nowhere.
[[nodiscard]] absl::StatusOr<std::int64_t> KeepCheckpoint(sae::Env& env, const std::string& trial,
                                                          const std::string& name,
                                                          const LinkFile& link = HardLink);

/// Removes both, or the one of TRIAL/kept only; returns the bytes that went. FAILED_PRECONDITION
/// when an attempt would go on from it: it is the newest whole one of TRIAL/checkpoints, or of
/// TRIAL/kept if that has none.
[[nodiscard]] absl::StatusOr<std::int64_t> DeleteCheckpoint(sae::Env& env, const std::string& trial,
                                                            const std::string& name,
                                                            bool kept_only = false);

/// Before an attempt: where TRIAL/checkpoints has no checkpoint, the newest of TRIAL/kept becomes
/// its first.
[[nodiscard]] absl::Status GoOnFromKept(sae::Env& env, const std::string& trial,
                                        const LinkFile& link = HardLink);

}  // namespace saeloom::agent
