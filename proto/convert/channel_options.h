#pragma once
// gRPC channel settings that client, worker and coordinator must agree on: a server that allows
// fewer pings than a client sends closes the connection with "too_many_pings". Include this on both
// sides; never set keepalive elsewhere. Pure functions.

#include <grpcpp/server_builder.h>
#include <grpcpp/support/channel_arguments.h>

namespace sae {

inline constexpr int kKeepaliveTimeMs = 30'000;
inline constexpr int kKeepaliveTimeoutMs = 10'000;
/// How long the first attempt to connect may take at least: TCP and TLS over a slow link, or to a
/// busy machine. No other attempt begins earlier, even when it was refused at once.
inline constexpr int kConnectTimeoutMs = 1'500;
/// A ListTrials page or a sweep of many values; gRPC's own default is 4 MiB.
inline constexpr int kMaxMessageBytes = 16 << 20;

enum class ChannelUse {
  kControl,    ///< unary calls, a worker's Session
  kTelemetry,  ///< WatchSweep, TailLogs: a small flow-control window, so that a slow reader holds
               ///< little stale data
};

/// For every client channel. Control and telemetry belong on separate channels (both set
/// GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL), so that a stuck stream never delays a heartbeat.
inline grpc::ChannelArguments ClientChannelArguments(ChannelUse use) {
  grpc::ChannelArguments args;
  args.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  args.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  args.SetInt(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  args.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  args.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  // http_proxy of the environment is for the web, not for a coordinator on loopback or in the
  // cluster.
  args.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
  // Come back within seconds after a coordinator's restart (gRPC's default backs off to 2 minutes).
  args.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 200);
  args.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, kConnectTimeoutMs);  // what gRPC means by the name
  args.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 2'000);
  args.SetMaxReceiveMessageSize(kMaxMessageBytes);
  args.SetMaxSendMessageSize(kMaxMessageBytes);
  if (use == ChannelUse::kTelemetry) {
    args.SetInt(GRPC_ARG_HTTP2_BDP_PROBE, 0);
    args.SetInt(GRPC_ARG_HTTP2_STREAM_LOOKAHEAD_BYTES, 65'535);
  }
  return args;
}

/// The server's side of the same bargain. Also: a port in use is an error, not a shared port.
inline void ApplyServerChannelOptions(grpc::ServerBuilder& builder) {
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveTimeMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 10'000);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
  builder.SetMaxSendMessageSize(kMaxMessageBytes);
}

}  // namespace sae
