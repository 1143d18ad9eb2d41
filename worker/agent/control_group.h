#pragma once
// A control group (cgroup v2) for each gang, where this process may make some: the kernel then
// knows every process of it, ends them at once, and counts those that it killed for memory. An aid:
// without one, marks in the environment find the same processes. Stateless; paths are below the
// group of this process. Thread-safe.

#include <cstdint>
#include <optional>
#include <string>

#include "sae/base/env.h"
#include "sae/base/process.h"

namespace saeloom::agent {

/// Folder of this process's own group; "" when there is no cgroup v2, or no group can be made in
/// it. Removes empty groups that gangs of earlier workers left.
std::string OwnControlGroup(sae::Env& env);
/// The same from the content of /proc/self/mounts and /proc/self/cgroup: "" when they name none.
std::string ControlGroupFolder(const std::string& mounts, const std::string& groups);

/// Of the gang, below `root`; "" when `root` is.
std::string ControlGroupOf(const std::string& root, const std::string& gang,
                           const std::string& runs_id);
/// False when it cannot be made.
bool MakeControlGroup(const std::string& path);
/// `command` begins in the group; where that fails it runs all the same.
void BeginIn(const std::string& path, sae::ProcessSpec& command);
/// SIGKILL to all in it.
void KillControlGroup(const std::string& path);
/// It was removed, or there is none: nothing runs in it.
bool RemoveControlGroup(const std::string& path);
/// How many in it the kernel killed for lack of memory; nullopt where it does not count that.
std::optional<std::int64_t> MemoryKills(sae::Env& env, const std::string& path);

}  // namespace saeloom::agent
