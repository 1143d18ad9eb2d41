#include "bench/coordinator/watch_client.h"

#include <cstdio>

#include "proto/convert/channel_options.h"
#include "sae/base/clock.h"

namespace sae::bench {
namespace v1 = saeloom::v1;

WatchClient::WatchClient(const std::string& address, const v1::WatchSweepRequest& request,
                         bool reads, WatchTotals& totals)
    : reads_(reads),
      totals_(totals),
      stub_(v1::TelemetryService::NewStub(
          grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(),
                                    ClientChannelArguments(ChannelUse::kTelemetry)))),
      request_(request) {
  context_.set_wait_for_ready(true);  // a thousand connect at once
  stub_->async()->WatchSweep(&context_, &request_, this);
  if (!reads_) AddHold();
  if (reads_) StartRead(&event_);
  StartCall();
}

WatchClient::~WatchClient() {
  leaving_ = true;
  context_.TryCancel();
  if (!reads_) RemoveHold();
  MutexLock lock(mu_);
  while (!done_) changed_.Wait(mu_);
}

void WatchClient::OnReadDone(bool ok) {
  if (!ok) return;
  ++totals_.events;
  if (event_.has_point()) {
    ++totals_.points;
    const auto& time = event_.time();
    totals_.lag.Add(RealClock().Now() - absl::FromUnixSeconds(time.seconds()) -
                    absl::Nanoseconds(time.nanos()));
  }
  if (event_.has_counts()) ++totals_.counts;
  if (event_.has_resync()) ++totals_.resyncs;
  if (event_.has_point() || event_.has_trial_change()) {
    if (event_.seq() <= last_) ++totals_.disorder;
    last_ = event_.seq();
  }
  StartRead(&event_);
}

void WatchClient::OnDone(const grpc::Status& status) {
  if (!leaving_ && totals_.broken++ == 0) {
    std::fprintf(stderr, "a stream ended: %d %s\n", static_cast<int>(status.error_code()),
                 status.error_message().c_str());
  }
  MutexLock lock(mu_);
  done_ = true;
  changed_.NotifyAll();
}

}  // namespace sae::bench
