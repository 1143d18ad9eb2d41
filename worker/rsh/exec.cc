#include "worker/rsh/exec.h"

#include <grpcpp/create_channel.h>

#include "proto/transport/credentials.h"
#include "saeloom/v1/peer_service.grpc.pb.h"

namespace saeloom::rsh {
namespace {

constexpr int kKeepaliveMs = 2000;
constexpr absl::Duration kLastLook = absl::Seconds(1);

sae::ClientCredentialOptions CredentialsOf(const PeersFile& peers) {
  sae::ClientCredentialOptions options;
  options.tls.cert = peers.cert;
  options.tls.key = peers.key;
  options.tls.ca = peers.ca;
  return options;
}

absl::StatusOr<std::shared_ptr<grpc::Channel>> Connect(const PeersFile& peers,
                                                       const std::string& address) {
  SAE_ASSIGN_OR_RETURN(const auto credentials,
                       sae::MakeClientCredentials(CredentialsOf(peers), address));
  grpc::ChannelArguments arguments;
  // A peer that is cut off, not gone, must be noticed, too.
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);  // peers are near
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 500);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  return grpc::CreateCustomChannel(address, credentials, arguments);
}

/// What stood in the way of the newest attempt to connect; "" when gRPC does not say.
std::string WhyUnreachable(v1::PeerService::Stub& stub, const PeersFile& peers,
                           absl::Time deadline) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(deadline));
  const auto stream = stub.Exec(&context);
  stream->WritesDone();
  const grpc::Status status = stream->Finish();
  if (status.error_code() != grpc::StatusCode::UNAVAILABLE) return "";
  const std::string advice = sae::ConnectionAdvice(CredentialsOf(peers), status.error_message());
  return advice.empty() ? status.error_message() : advice;
}

}  // namespace

absl::StatusOr<int> Exec(const ExecOptions& options, const PeersFile& peers,
                         const std::string& host, const std::string& command) {
  const auto found = peers.addresses.find(host);
  if (found == peers.addresses.end())
    return absl::NotFoundError(absl::StrCat("host ", host, " is no peer of this gang"));
  const std::string& address = found->second;
  const std::string who = absl::StrCat("host ", host, " (", address, ")");
  SAE_ASSIGN_OR_RETURN(const auto channel, Connect(peers, address));
  const absl::Duration deadline = absl::Seconds(peers.connect_seconds);
  const auto stub = v1::PeerService::NewStub(channel);
  if (!channel->WaitForConnected(absl::ToChronoTime(options.clock->Now() + deadline))) {
    const std::string why = WhyUnreachable(*stub, peers, options.clock->Now() + kLastLook);
    return absl::UnavailableError(absl::StrCat(who, " cannot be reached within ",
                                               absl::FormatDuration(deadline),
                                               why.empty() ? "" : ": ", why));
  }
  grpc::ClientContext context;
  const auto stream = stub->Exec(&context);
  v1::ExecRequest request;
  request.set_sweep(peers.sweep);
  request.set_trial(peers.trial);
  request.set_attempt(peers.attempt);
  request.set_token(peers.token);
  request.set_command(command);
  stream->Write(request);
  std::optional<int> code;
  v1::ExecReply reply;
  while (stream->Read(&reply)) {
    if (!reply.err().empty()) options.err(reply.err());
    if (reply.exited()) code = reply.exit_code();
  }
  const grpc::Status status = stream->Finish();
  if (code) return *code;
  const auto why = status.ok() ? absl::StatusCode::kUnavailable
                               : static_cast<absl::StatusCode>(status.error_code());
  return absl::Status(why, sae::ToAbsl(who + ": " +
                                       (status.ok() ? "the stream ended without an exit code"
                                                    : status.error_message())));
}

}  // namespace saeloom::rsh
