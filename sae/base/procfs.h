#pragma once
// What /proc tells about processes: who belongs to a session, who carries a mark in its
// environment, so that nothing of a gang is left behind even when the program that started it died.
// Stateless, thread-safe. A process that ends while it is looked at is simply not there; zombies do
// not count as processes.

#include <cstdint>
#include <optional>
#include <string>
#include <sys/types.h>
#include <vector>

#include "sae/base/status.h"

namespace sae {

struct ProcessInfo {
  pid_t pid = 0;
  pid_t parent = 0;
  pid_t group = 0;
  pid_t session = 0;
  char state = '?';
  std::int64_t start_ticks =
      0;             ///< since boot, in clock ticks: with pid and boot id it names a process
  std::string name;  ///< of the program, at most 15 characters
  bool alive() const { return state != 'Z' && state != 'X'; }
};

/// /proc/sys/kernel/random/boot_id.
[[nodiscard]] absl::StatusOr<std::string> BootId();
/// NOT_FOUND when there is no such process.
[[nodiscard]] absl::StatusOr<ProcessInfo> ReadProcess(pid_t pid);
/// Parses the content of /proc/PID/stat.
[[nodiscard]] absl::StatusOr<ProcessInfo> ParseStat(const std::string& stat);
/// All that live, in the order of pid.
std::vector<ProcessInfo> ListProcesses();

/// Which processes: those of the session (0 = none), and those whose environment has every entry of
/// `marks`
/// ("NAME=VALUE"; empty = none). The calling process is never meant. Environments of other users'
/// processes can only be read by root.
struct ProcessQuery {
  pid_t session = 0;
  std::vector<std::string> marks;
};
std::vector<ProcessInfo> FindProcesses(const ProcessQuery& query);
/// Sends the signal to each of them, checking through a pidfd that a pid still means the same
/// process. Returns how many were signalled.
int SignalProcesses(const ProcessQuery& query, int signal);

/// System calls of the same names: a descriptor that is readable once the process has ended (-1 and
/// errno on failure), and a signal through it, which cannot hit another process that got the same
/// pid.
int PidfdOpen(pid_t pid);
int PidfdSignal(int pidfd, int signal);

/// How many processes the kernel has killed for lack of memory since boot (oom_kill of
/// /proc/vmstat); 0 when it does not say.
std::int64_t OutOfMemoryKills();

}  // namespace sae
