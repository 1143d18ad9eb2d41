#include "worker/agent/slots.h"

#include <algorithm>
#include <cstddef>
#include <sched.h>
#include <unistd.h>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

#include "sae/base/env.h"
#include "sae/base/process.h"

namespace saeloom::agent {

Slots ChooseSlots(int wanted, int cores, int gpus) {
  constexpr int kMostCpuSlots = 8;
  Slots s;
  s.gpus = gpus;
  s.slots = wanted > 0 ? wanted : gpus > 0 ? gpus : std::min(cores, kMostCpuSlots);
  s.threads = std::max(1, cores / s.slots);
  s.oversubscribed = s.slots > std::max(cores, gpus);
  return s;
}

int DetectCores() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (::sched_getaffinity(0, sizeof set, &set) != 0) return 1;
  return std::max(1, CPU_COUNT(&set));
}

std::int64_t DetectMemory() {
  const std::int64_t pages = ::sysconf(_SC_PHYS_PAGES), size = ::sysconf(_SC_PAGESIZE);
  std::int64_t bytes = pages > 0 && size > 0 ? pages * size : 0;
  // "max" where there is no limit.
  const auto limit = sae::RealEnv().Read("/sys/fs/cgroup/memory.max");
  std::int64_t most = 0;
  if (limit.ok() && absl::SimpleAtoi(absl::StripAsciiWhitespace(*limit), &most) && most > 0)
    bytes = bytes == 0 ? most : std::min(bytes, most);
  return bytes;
}

int DetectGpus(const std::string& path) {
  const auto program = sae::FindInPath("", "--gpus", "nvidia-smi", path);
  if (!program.ok()) return 0;
  const auto run = sae::RunProcess({.argv = {*program, "-L"}}, absl::Seconds(20));
  if (!run.ok() || run->exit.ShellCode() != 0) return 0;
  int gpus = 0;
  for (std::size_t at = 0; at < run->output.size();) {
    const std::size_t end = std::min(run->output.find('\n', at), run->output.size());
    if (run->output.compare(at, 4, "GPU ") == 0) ++gpus;
    at = end + 1;
  }
  return gpus;
}

}  // namespace saeloom::agent
