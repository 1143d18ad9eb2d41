#include "bench/coordinator/report.h"

#include <algorithm>
#include <cstdio>

#include "absl/strings/str_format.h"

namespace sae::bench {

void Report::Say(const std::string& name, const std::string& value) {
  MutexLock lock(mu_);
  std::printf("%-44s %s\n", name.c_str(), value.c_str());
  std::fflush(stdout);
}

void Report::Check(bool good, const std::string& problem) {
  if (good) return;
  MutexLock lock(mu_);
  if (std::find(problems_.begin(), problems_.end(), problem) == problems_.end())
    problems_.push_back(problem);
}

std::vector<std::string> Report::problems() {
  MutexLock lock(mu_);
  return problems_;
}

std::string Mebibytes(double bytes) { return absl::StrFormat("%.1f MiB", bytes / (1 << 20)); }

std::string Milliseconds(absl::Duration d) {
  return absl::StrFormat("%.0f ms", absl::ToDoubleMilliseconds(d));
}

}  // namespace sae::bench
