#include "bench/coordinator/server_process.h"

#include <arpa/inet.h>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <sstream>
#include <sys/socket.h>
#include <unistd.h>

#include "sae/base/clock.h"
#include "sae/base/env.h"

namespace sae::bench {
namespace {

std::string HttpGet(const std::string& address, const std::string& path) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port =
      htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  std::string out;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) {
    const std::string request = "GET " + path + " HTTP/1.0\r\nHost: localhost\r\n\r\n";
    char buffer[4096];
    if (::write(fd, request.data(), request.size()) > 0) {
      for (ssize_t n = 0; (n = ::read(fd, buffer, sizeof buffer)) > 0;)
        out.append(buffer, static_cast<std::size_t>(n));
    }
  }
  ::close(fd);
  return out;
}

}  // namespace

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
  while (!RealEnv().Exists(ports)) {
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

double ServerProcess::MetricValue(const std::string& name) const {
  std::istringstream page(HttpGet(metrics_, "/metrics"));
  for (std::string line; std::getline(page, line);) {
    if (line.rfind(name + " ", 0) == 0) return std::strtod(line.c_str() + name.size(), nullptr);
  }
  return -1;
}

std::string ServerProcess::Log() const { return RealEnv().Read(folder_ + "/stderr").value_or(""); }

}  // namespace sae::bench
