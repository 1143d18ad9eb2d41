#include "server/service/server.h"

#include <chrono>

#include "absl/strings/numbers.h"
#include <grpc/support/time.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/server_builder.h>

#include "proto/convert/channel_options.h"
#include "proto/transport/credentials.h"
#include "server/runtime/run_on_core.h"
#include "server/service/auth_service.h"
#include "server/service/fleet_service.h"
#include "server/service/health_switch.h"
#include "server/service/sweep_service.h"
#include "server/service/telemetry_service.h"
#include "server/service/trial_service.h"
#include "server/service/worker_service.h"

namespace sae::server {
namespace {

GateOptions WithTls(const ServerOptions& options) {
  GateOptions gate = options.gate;
  gate.tls = !options.tls.empty();
  return gate;
}

}  // namespace

absl::Status CheckListenAddress(const std::string& address, bool anywhere,
                                const std::string& flag) {
  const std::size_t colon = address.rfind(':');
  int port = -1;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(address.substr(colon + 1), &port) || port < 0 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat(flag, ": \"", address, "\" is not HOST:PORT, as 127.0.0.1:7411"));
  }
  if (anywhere || IsLoopbackTarget(address)) return absl::OkStatus();
  return absl::PermissionDeniedError(absl::StrCat(
      flag, ": ", address,
      " is not on loopback, and calls are neither encrypted nor authenticated; bind to "
      "127.0.0.1, or say --insecure-bind-anywhere on a network that you trust"));
}

struct Server::Rpc {
  Rpc(ServiceContext& context, const Entropy& entropy)
      : sweeps(context),
        trials(context),
        telemetry(context),
        fleet(context),
        auth(context, entropy),
        workers(context) {}
  SweepServiceImpl sweeps;
  TrialServiceImpl trials;
  TelemetryServiceImpl telemetry;
  FleetServiceImpl fleet;
  AuthServiceImpl auth;
  WorkerServiceImpl workers;
  HealthSwitch health;
  std::unique_ptr<grpc::Server> server;
};

Server::Server(const ServerOptions& options, Coordinator& coordinator, RpcObserver* rpcs)
    : coordinator_(coordinator),
      hubs_({options.watch_heartbeat, options.watch_most_lag}),
      gate_(WithTls(options), coordinator.clock(), rpcs),
      context_{coordinator, hubs_, rpcs == nullptr ? silent_ : *rpcs, gate_, options.trust_domain},
      rpc_(std::make_unique<Rpc>(context_, options.entropy)) {}

Server::~Server() { Stop(absl::ZeroDuration()); }

absl::StatusOr<std::unique_ptr<Server>> Server::Start(const ServerOptions& options,
                                                      Coordinator& coordinator, RpcObserver* rpcs) {
  SAE_RETURN_IF_ERROR(CheckListenAddress(
      options.listen, options.insecure_bind_anywhere || !options.tls.empty(), "--listen"));
  SAE_ASSIGN_OR_RETURN(const auto credentials,
                       MakeServerCredentials(options.tls, ClientCertificates::kVerifiedIfGiven));
  std::unique_ptr<Server> server(new Server(options, coordinator, rpcs));
  // Process-wide switches of gRPC, made before any server is built.
  grpc::EnableDefaultHealthCheckService(true);
  if (options.reflection) grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  ApplyServerChannelOptions(builder);
  int port = 0;
  builder.AddListeningPort(options.listen, credentials, &port);
  builder.RegisterService(&server->rpc_->sweeps);
  builder.RegisterService(&server->rpc_->trials);
  builder.RegisterService(&server->rpc_->telemetry);
  builder.RegisterService(&server->rpc_->fleet);
  builder.RegisterService(&server->rpc_->auth);
  builder.RegisterService(&server->rpc_->workers);

  Server* raw = server.get();
  // Before the first call could ask for one.
  SAE_ASSIGN_OR_RETURN(auto tokens, (RunOnCore<absl::StatusOr<std::vector<TokenRecord>>>(
                                        coordinator, [raw](Core& core) {
                                          core.AddObserver(&raw->hubs_.sessions);
                                          core.AddObserver(&raw->hubs_.watch);
                                          return raw->coordinator_.store().Tokens();
                                        })));
  raw->gate_.tokens().Load(std::move(tokens));
  coordinator.AddTimedHook([raw](Core& core) {
    return raw->hubs_.watch.Poll(core, raw->coordinator_.clock().SinceBoot());
  });
  coordinator.AddHook([raw](Core& core) {
    raw->hubs_.logs.Poll(core);
    absl::IsUnavailable(core.disk()) ? raw->hubs_.sessions.ForgetAcks()
                                     : raw->hubs_.sessions.Poll(core);
    raw->gate_.Poll(raw->coordinator_.store());
    raw->rpc_->health.Set(core.disk().ok());
  });
  server->rpc_->server = builder.BuildAndStart();
  if (server->rpc_->server == nullptr || port == 0) {
    return absl::FailedPreconditionError(
        absl::StrCat("--listen: cannot bind ", options.listen,
                     ": the address is in use, or not one of this machine; give "
                     "another port, or :0 for a free one"));
  }
  server->rpc_->health.Bind(server->rpc_->server->GetHealthCheckService());
  server->address_ = absl::StrCat(options.listen.substr(0, options.listen.rfind(':')), ":", port);
  return server;
}

void Server::Stop(absl::Duration grace) {
  if (rpc_->server != nullptr) {
    rpc_->health.Unbind();
    coordinator_.Post([this](Core&) {
      gate_.Poll(coordinator_.store());
      hubs_.watch.Drain();
      hubs_.logs.Drain();
      hubs_.sessions.Drain();
    });
    // gRPC waits by its own clock, whatever clock is injected here.
    rpc_->server->Shutdown(
        gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC),
                     gpr_time_from_millis(absl::ToInt64Milliseconds(grace), GPR_TIMESPAN)));
    rpc_->server = nullptr;
  }
  // What is still posted uses the hubs.
  coordinator_.Stop();
}

}  // namespace sae::server
