#include "worker/agent/peer_service.h"

#include <cerrno>
#include <csignal>
#include <poll.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include "absl/strings/str_join.h"
#include <grpcpp/server_builder.h>

#include "proto/transport/credentials.h"

namespace saeloom::agent {
namespace {

constexpr int kPollMs = 50;
constexpr int kKeepaliveMs = 2000;
/// For a killed process to be gone: the kernel's part alone.
constexpr absl::Duration kLongestEnd = absl::Seconds(20);
constexpr absl::Duration kEndPause = absl::Milliseconds(10);

grpc::Status ToGrpc(const absl::Status& status) {
  return {static_cast<grpc::StatusCode>(status.code()), sae::Message(status)};
}

std::string FolderOf(const std::string& path) { return path.substr(0, path.rfind('/')); }

/// What there is of the command's output within kPollMs; nullopt at its end.
std::optional<std::string> ReadSome(int fd) {
  pollfd p{fd, POLLIN, 0};
  if (::poll(&p, 1, kPollMs) <= 0) return "";
  char buffer[4096];
  const ssize_t n = ::read(fd, buffer, sizeof buffer);
  if (n > 0) return std::string(buffer, static_cast<std::size_t>(n));
  return n < 0 && errno == EINTR ? std::optional<std::string>("") : std::nullopt;
}

bool Send(grpc::ServerReaderWriter<v1::ExecReply, v1::ExecRequest>& stream, std::string text) {
  if (text.empty()) return true;
  v1::ExecReply reply;
  reply.set_err(std::move(text));
  return stream.Write(reply);
}

}  // namespace

std::vector<std::string> PeerMarks(const AttemptKey& key, const std::string& runs_id,
                                   const std::string& worker_id) {
  std::vector<std::string> marks = GangMarks(key, runs_id);
  marks.push_back("SAELOOM_WORKER=" + worker_id);
  return marks;
}

absl::StatusOr<int> PeerService::Start(
    const std::string& listen, const std::shared_ptr<grpc::ServerCredentials>& credentials) {
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort(listen, credentials, &port);
  builder.RegisterService(this);
  // A head that is cut off, not gone, must be noticed, too.
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveMs);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS,
                             kKeepaliveMs / 2);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  server_ = builder.BuildAndStart();
  if (server_ == nullptr || port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on --peer-listen ", listen,
                     ": is the port taken, or the address another machine's?"));
  }
  return port;
}

void PeerService::Stop() {
  if (server_ == nullptr) return;
  options_.reservations->EndAll();
  server_->Shutdown(absl::ToChronoTime(absl::UnixEpoch()));  // long past: at once
  server_->Wait();
  server_.reset();
}

sae::ProcessSpec PeerService::Command(const v1::ExecRequest& request,
                                      const Reservation& reservation) const {
  sae::ProcessSpec spec;
  spec.argv = {options_.gang.rsh, "--guard", absl::StrCat(::getpid()), request.command()};
  spec.capture = true;
  spec.unset = LauncherVariables();
  spec.environment["OMP_NUM_THREADS"] = absl::StrCat(options_.threads);
  if (!reservation.gpus.empty())
    spec.environment["CUDA_VISIBLE_DEVICES"] = absl::StrJoin(reservation.gpus, ",");
  for (const std::string& mark : PeerMarks(reservation.key, options_.runs_id, options_.worker_id)) {
    const std::size_t equals = mark.find('=');
    spec.environment[mark.substr(0, equals)] = mark.substr(equals + 1);
  }
  const char* path = std::getenv("PATH");
  spec.environment["PATH"] =
      absl::StrCat(FolderOf(options_.gang.mpirun), ":", path == nullptr ? "/usr/bin:/bin" : path);
  if (::geteuid() == 0) {
    spec.environment["OMPI_ALLOW_RUN_AS_ROOT"] = "1";
    spec.environment["OMPI_ALLOW_RUN_AS_ROOT_CONFIRM"] = "1";
  }
  for (const auto& [name, value] : options_.gang.environment) spec.environment[name] = value;
  return spec;
}

std::optional<int> PeerService::Follow(grpc::ServerContext& context, Stream& stream,
                                       const AttemptKey& key, sae::Process& process) const {
  bool open = true;
  while (!context.IsCancelled() && options_.reservations->Wanted(key)) {
    if (open) {
      const auto text = ReadSome(process.output_fd());
      open = text.has_value();
      if (open && !Send(stream, *text)) return std::nullopt;
    }
    const auto exit = process.Wait(open ? absl::ZeroDuration() : absl::Milliseconds(kPollMs));
    if (!exit.ok()) return std::nullopt;
    if (!exit->has_value()) continue;
    while (open) {  // what it had written; a stray child may hold the pipe open, so no longer than
                    // there is some
      const auto rest = ReadSome(process.output_fd());
      open = rest && !rest->empty();
      if (open && !Send(stream, *rest)) break;
    }
    return (*exit)->ShellCode();
  }
  return std::nullopt;
}

void PeerService::EndAll(const sae::ProcessQuery& query) const {
  const absl::Duration end = options_.clock->SinceBoot() + kLongestEnd;
  while (!sae::FindProcesses(query).empty()) {
    sae::SignalProcesses(query, SIGKILL);
    if (options_.clock->SinceBoot() > end) {
      spdlog::error("processes of a peer's gang do not end: {}", absl::StrJoin(query.marks, " "));
      return;
    }
    options_.clock->SleepFor(kEndPause);
  }
}

grpc::Status PeerService::Exec(grpc::ServerContext* context, Stream* stream) {
  if (!options_.trust_domain.empty() &&
      !sae::WorkerOfPeer(*context->auth_context(), options_.trust_domain)) {
    spdlog::warn("refused {}, whose certificate names no worker", context->peer());
    return {grpc::StatusCode::UNAUTHENTICATED,
            "the certificate names no spiffe://" + options_.trust_domain + "/worker/NAME"};
  }
  v1::ExecRequest request;
  if (!stream->Read(&request)) return {grpc::StatusCode::INVALID_ARGUMENT, "no command came"};
  const AttemptKey key = KeyOf(request);
  const auto reservation = options_.reservations->Enter(key, request.token());
  if (!reservation.ok()) {
    spdlog::warn("refused a peer: {}", sae::Message(reservation.status()));
    return ToGrpc(reservation.status());
  }
  std::optional<int> code;
  auto process = sae::Process::Spawn(Command(request, *reservation));
  if (process.ok()) {
    spdlog::info("attempt {}: {} runs its daemon here, process {}", key.Text(), context->peer(),
                 (*process)->pid());
    code = Follow(*context, *stream, key, **process);
    EndAll({.session = (*process)->pid(),
            .marks = PeerMarks(key, options_.runs_id, options_.worker_id)});
    spdlog::info("attempt {}: its daemon has ended here ({})", key.Text(),
                 code ? absl::StrCat("exit code ", *code) : std::string("it was ended"));
  }
  options_.reservations->Leave(key);
  if (!process.ok()) return ToGrpc(process.status());
  if (!code) return {grpc::StatusCode::CANCELLED, "the command was ended"};
  v1::ExecReply reply;
  reply.set_exited(true);
  reply.set_exit_code(*code);
  stream->Write(reply);
  return grpc::Status::OK;
}

}  // namespace saeloom::agent
