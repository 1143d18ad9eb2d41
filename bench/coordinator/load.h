#pragma once
// The phases of a load on one coordinator, one after the other, each with a deadline.

#include <memory>
#include <string>
#include <vector>

#include "bench/coordinator/report.h"
#include "bench/coordinator/server_process.h"
#include "bench/coordinator/sim_agent.h"
#include "bench/coordinator/watch_client.h"
#include "bench/coordinator/watchdog.h"

namespace sae::bench {

struct LoadOptions {
  int trials = 100'000;
  int agents = 200;
  double events_per_second = 5000;
  int watchers = 1000;
  int readers = 10;
  int seconds = 30;
  int points_per_trial = 200;
  absl::Duration submit_every = absl::Milliseconds(100);
  absl::Duration settle = absl::Seconds(5);  ///< before anything is measured
};

class Load {
 public:
  /// All outlive it.
  Load(const LoadOptions& options, ServerProcess& server, Report& report, Watchdog& watchdog)
      : options_(options), server_(server), report_(report), watchdog_(watchdog) {}

  [[nodiscard]] absl::Status Run();

 private:
  absl::Status SubmitLarge();
  void StartAgents();
  absl::Status StartWatchers();
  absl::Status Measure();
  void PrintWatching();
  absl::Status Restart();

  const LoadOptions& options_;
  ServerProcess& server_;
  Report& report_;
  Watchdog& watchdog_;
  AgentTotals totals_;
  WatchTotals reading_, stuck_, all_;
  std::vector<std::unique_ptr<SimAgent>> agents_;
  std::vector<std::unique_ptr<WatchClient>> watchers_;
};

/// Starts over a long history of `events` events in `folder`: without a snapshot, with one, and
/// after kill -9.
[[nodiscard]] absl::Status RunHistory(const std::string& folder, int trials, std::int64_t events,
                                      Report& report, Watchdog& watchdog);

}  // namespace sae::bench
