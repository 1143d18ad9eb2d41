#include "sae/base/procfs.h"

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <dirent.h>
#include <fstream>
#include <sstream>
#include <sys/syscall.h>
#include <unistd.h>

namespace sae {
namespace {

/// Files of /proc have no size: read to the end. Empty when it cannot be read.
std::string ReadProcFile(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream out;
  out << in.rdbuf();
  return std::move(out).str();
}

std::string PathOf(pid_t pid, const char* file) { return absl::StrCat("/proc/", pid, "/", file); }

/// A process that is inside execve has no environment for an instant: looked at again, a few times.
std::string ReadEnvironment(const ProcessInfo& p) {
  constexpr int kTries = 5;
  constexpr pid_t kKernelThreads = 2;  // they have none, ever
  const std::string path = PathOf(p.pid, "environ");
  std::string all;
  for (int i = 0; i < kTries && ::access(path.c_str(), R_OK) == 0; ++i) {
    all = ReadProcFile(path);
    if (!all.empty() || p.pid == kKernelThreads || p.parent == kKernelThreads) break;
    ::usleep(500);
  }
  return all;
}

bool HasMarks(const ProcessInfo& p, const std::vector<std::string>& marks) {
  // Entries are separated by NUL; one in front lets a search find whole entries only.
  const std::string all = std::string(1, '\0') + ReadEnvironment(p);
  return std::all_of(marks.begin(), marks.end(), [&](const std::string& mark) {
    return all.find(std::string(1, '\0') + mark + std::string(1, '\0')) != std::string::npos;
  });
}

bool Matches(const ProcessInfo& p, const ProcessQuery& query) {
  if (!p.alive() || p.pid == ::getpid()) return false;
  if (query.session != 0 && p.session == query.session) return true;
  return !query.marks.empty() && HasMarks(p, query.marks);
}

}  // namespace

// glibc 2.36 has wrappers, but its <sys/pidfd.h> lacks extern "C".
int PidfdOpen(pid_t pid) { return static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)); }
int PidfdSignal(int pidfd, int signal) {
  return static_cast<int>(::syscall(SYS_pidfd_send_signal, pidfd, signal, nullptr, 0));
}

absl::StatusOr<std::string> BootId() {
  std::string id = ReadProcFile("/proc/sys/kernel/random/boot_id");
  while (!id.empty() && id.back() == '\n') id.pop_back();
  if (id.empty())
    return absl::InternalError("cannot read /proc/sys/kernel/random/boot_id: is /proc mounted?");
  return id;
}

absl::StatusOr<ProcessInfo> ParseStat(const std::string& stat) {
  // "pid (name) state ppid pgrp session ...": the name may hold spaces and parentheses, so cut at
  // the last ')'.
  const std::size_t open = stat.find('(');
  const std::size_t close = stat.rfind(')');
  if (open == std::string::npos || close == std::string::npos || close < open) {
    return absl::InvalidArgumentError(
        absl::StrCat("not a /proc/PID/stat line: ", stat.substr(0, 80)));
  }
  ProcessInfo p;
  p.pid = static_cast<pid_t>(std::atol(stat.c_str()));
  p.name = stat.substr(open + 1, close - open - 1);
  std::istringstream rest(stat.substr(close + 1));
  std::string skipped;
  rest >> p.state >> p.parent >> p.group >> p.session;
  for (int field = 7; field <= 21; ++field) rest >> skipped;  // start time is field 22 of proc(5)
  rest >> p.start_ticks;
  if (!rest)
    return absl::InvalidArgumentError(
        absl::StrCat("short /proc/PID/stat line: ", stat.substr(0, 80)));
  return p;
}

absl::StatusOr<ProcessInfo> ReadProcess(pid_t pid) {
  const std::string stat = ReadProcFile(PathOf(pid, "stat"));
  if (stat.empty()) return absl::NotFoundError(absl::StrCat("no process ", pid));
  return ParseStat(stat);
}

std::vector<ProcessInfo> ListProcesses() {
  std::vector<ProcessInfo> out;
  DIR* dir = ::opendir("/proc");
  if (dir == nullptr) return out;
  while (const dirent* entry = ::readdir(dir)) {
    if (entry->d_name[0] < '1' || entry->d_name[0] > '9') continue;
    auto p = ReadProcess(static_cast<pid_t>(std::atol(entry->d_name)));
    if (p.ok() && p->alive()) out.push_back(*std::move(p));
  }
  ::closedir(dir);
  std::sort(out.begin(), out.end(), [](const auto& a, const auto& b) { return a.pid < b.pid; });
  return out;
}

std::vector<ProcessInfo> FindProcesses(const ProcessQuery& query) {
  std::vector<ProcessInfo> out;
  for (ProcessInfo& p : ListProcesses()) {
    if (Matches(p, query)) out.push_back(std::move(p));
  }
  return out;
}

int SignalProcesses(const ProcessQuery& query, int signal) {
  int signalled = 0;
  for (const ProcessInfo& p : FindProcesses(query)) {
    const int pidfd = PidfdOpen(p.pid);
    if (pidfd < 0) continue;
    const auto again = ReadProcess(p.pid);
    const bool same = again.ok() && again->start_ticks == p.start_ticks && again->alive();
    if (same && PidfdSignal(pidfd, signal) == 0) ++signalled;
    ::close(pidfd);
  }
  return signalled;
}

std::int64_t OutOfMemoryKills() {
  std::istringstream lines(ReadProcFile("/proc/vmstat"));
  std::string name;
  std::int64_t value = 0;
  while (lines >> name >> value) {
    if (name == "oom_kill") return value;
  }
  return 0;
}

}  // namespace sae
