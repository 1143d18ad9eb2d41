#pragma once
// One WatchSweep stream on a connection of its own, with a reader that reads or never does.

#include <atomic>
#include <memory>
#include <string>

#include <grpcpp/grpcpp.h>

#include "bench/coordinator/statistics.h"
#include "sae/base/mutex.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"

namespace sae::bench {

/// Counted over a group of readers. Thread-safe.
struct WatchTotals {
  std::atomic<std::int64_t> events{0};
  std::atomic<std::int64_t> points{0};
  std::atomic<std::int64_t> counts{0};
  std::atomic<std::int64_t> resyncs{0};
  std::atomic<std::int64_t> disorder{0};  ///< seqs that did not grow
  std::atomic<std::int64_t> broken{0};    ///< streams that ended by themselves
  Latencies lag;                          ///< from a point's time to its arrival
};

class WatchClient final : public grpc::ClientReadReactor<saeloom::v1::SweepEvent> {
 public:
  WatchClient(const std::string& address, const saeloom::v1::WatchSweepRequest& request, bool reads,
              WatchTotals& totals);
  /// Cancels and waits for the end.
  ~WatchClient() override;

  void OnReadDone(bool ok) override;
  void OnDone(const grpc::Status& status) override;

 private:
  const bool reads_;
  WatchTotals& totals_;
  std::unique_ptr<saeloom::v1::TelemetryService::Stub> stub_;
  grpc::ClientContext context_;
  saeloom::v1::WatchSweepRequest request_;
  saeloom::v1::SweepEvent event_;
  std::int64_t last_ = 0;
  std::atomic<bool> leaving_{false};
  Mutex mu_;
  CondVar changed_;
  bool done_ ABSL_GUARDED_BY(mu_) = false;
};

}  // namespace sae::bench
