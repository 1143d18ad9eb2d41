#pragma once
// The coordinator's binary over one data folder: started, killed, measured from outside. Not
// thread-safe. Ends the process when it is destroyed.

#include <memory>
#include <string>
#include <vector>

#include "sae/base/process.h"

namespace sae::bench {

class ServerProcess {
 public:
  /// `folder` exists; the data is in folder/data.
  explicit ServerProcess(std::string folder) : folder_(std::move(folder)) {}

  /// Returns when it serves; how long that took.
  [[nodiscard]] absl::StatusOr<absl::Duration> Start(const std::vector<std::string>& flags = {});
  void Kill();                        ///< SIGKILL
  [[nodiscard]] absl::Status Stop();  ///< SIGTERM; OK when it exits with 0

  const std::string& address() const { return address_; }
  const std::string& metrics() const { return metrics_; }  ///< HOST:PORT of its metrics page
  std::string data() const { return folder_ + "/data"; }
  std::int64_t ResidentBytes() const;
  /// CPU time it has used.
  absl::Duration CpuTime() const;
  /// Of coordinator.db and its WAL.
  std::int64_t DatabaseBytes() const;
  std::string Log() const;

 private:
  std::string folder_;
  std::string address_, metrics_;
  std::unique_ptr<Process> process_;
};

/// CPU time that this process has used.
absl::Duration OwnCpuTime();

}  // namespace sae::bench
