#include "bench/coordinator/server_process.h"

#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <sstream>
#include <sys/resource.h>
#include <unistd.h>

#include "sae/base/clock.h"
#include "sae/base/env.h"

namespace sae::bench {
absl::StatusOr<absl::Duration> ServerProcess::Start(const std::vector<std::string>& flags) {
  const std::string ports = folder_ + "/ports.json";
  std::filesystem::remove(ports);
  ProcessSpec spec;
  spec.argv = {SAE_COORDINATOR, "--data", data(), "--port-file", ports, "--log-level", "warn"};
  spec.argv.insert(spec.argv.end(), flags.begin(), flags.end());
  spec.output = folder_ + "/stdout";
  spec.errors = folder_ + "/stderr";
  const absl::Duration begin = RealClock().SinceBoot();
  SAE_ASSIGN_OR_RETURN(process_, Process::Spawn(spec));
  while (!RealEnv().Exists(ports)) {  // the caller has a deadline
    SAE_ASSIGN_OR_RETURN(const auto exit, process_->Wait(absl::Milliseconds(5)));
    if (exit) return absl::InternalError("the coordinator has ended: " + Log());
  }
  const absl::Duration took = RealClock().SinceBoot() - begin;
  SAE_ASSIGN_OR_RETURN(const std::string text, RealEnv().Read(ports));
  const auto json = nlohmann::json::parse(text);
  address_ = json.at("listen");
  metrics_ = json.at("metrics");
  return took;
}

void ServerProcess::Kill() {
  if (process_ == nullptr) return;
  process_->Signal(SIGKILL).IgnoreError();
  process_->Wait(absl::Seconds(30)).IgnoreError();
  process_ = nullptr;
}

absl::Status ServerProcess::Stop() {
  SAE_RETURN_IF_ERROR(process_->Signal(SIGTERM));
  SAE_ASSIGN_OR_RETURN(const auto exit, process_->Wait(absl::Seconds(60)));
  process_ = nullptr;
  if (exit && exit->ShellCode() == 0) return absl::OkStatus();
  return absl::InternalError("the coordinator did not stop cleanly: " + Log());
}

std::int64_t ServerProcess::ResidentBytes() const {
  std::istringstream in(
      RealEnv().Read("/proc/" + std::to_string(process_->pid()) + "/statm").value_or(""));
  std::int64_t size = 0, resident = 0;
  in >> size >> resident;
  return resident * ::sysconf(_SC_PAGESIZE);
}

absl::Duration ServerProcess::CpuTime() const {
  const std::string stat =
      RealEnv().Read("/proc/" + std::to_string(process_->pid()) + "/stat").value_or("");
  std::istringstream in(stat.substr(std::min(stat.size(), stat.rfind(')') + 1)));
  std::string skipped;
  for (int i = 0; i < 11; ++i) in >> skipped;
  double user = 0, system = 0;
  in >> user >> system;
  return absl::Seconds((user + system) / static_cast<double>(::sysconf(_SC_CLK_TCK)));
}

std::int64_t ServerProcess::DatabaseBytes() const {
  std::int64_t sum = 0;
  for (const char* name : {"/coordinator.db", "/coordinator.db-wal"}) {
    std::error_code error;
    const auto size = std::filesystem::file_size(data() + name, error);
    if (!error) sum += static_cast<std::int64_t>(size);
  }
  return sum;
}

absl::Duration OwnCpuTime() {
  rusage used{};
  ::getrusage(RUSAGE_SELF, &used);
  return absl::DurationFromTimeval(used.ru_utime) + absl::DurationFromTimeval(used.ru_stime);
}

std::string ServerProcess::Log() const { return RealEnv().Read(folder_ + "/stderr").value_or(""); }

}  // namespace sae::bench
