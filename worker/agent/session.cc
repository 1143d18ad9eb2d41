#include "worker/agent/session.h"

#include <algorithm>
#include <atomic>
#include <spdlog/spdlog.h>

#include <grpcpp/create_channel.h>

#include "proto/convert/channel_options.h"

namespace saeloom::agent {
namespace {

absl::Duration FromProto(const google::protobuf::Duration& d) {
  return absl::Seconds(d.seconds()) + absl::Nanoseconds(d.nanos());
}

}  // namespace

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  return absl::Status(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
}

std::shared_ptr<grpc::Channel> MakeChannel(
    const std::string& address, const std::shared_ptr<grpc::ChannelCredentials>& credentials) {
  grpc::ChannelArguments arguments = sae::ClientChannelArguments(sae::ChannelUse::kControl);
  // Back sooner than people: attempts hang on it.
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 100);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, sae::kConnectTimeoutMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, sae::kConnectTimeoutMs);
  return grpc::CreateCustomChannel(
      address, credentials == nullptr ? grpc::InsecureChannelCredentials() : credentials,
      arguments);
}

Session::Session(Options options, SessionHandler& handler)
    : options_(std::move(options)),
      handler_(handler),
      stub_(v1::WorkerService::NewStub(options_.channel)) {}

Session::~Session() { Stop(); }

void Session::Start() {
  thread_ = std::thread([this] { Run(); });
}

void Session::Stop() {
  {
    sae::MutexLock lock(mu_);
    stopping_ = true;
    if (context_ != nullptr) context_->TryCancel();
    changed_.NotifyAll();
  }
  if (thread_.joinable()) thread_.join();
}

void Session::Nudge() {
  sae::MutexLock lock(mu_);
  nudged_ = true;
  changed_.NotifyAll();
}

void Session::Reregister() {
  sae::MutexLock lock(mu_);
  give_up_ = true;
  changed_.NotifyAll();
}

bool Session::stopping() const {
  sae::MutexLock lock(mu_);
  return stopping_;
}

int Session::registrations() const {
  sae::MutexLock lock(mu_);
  return registrations_;
}

absl::Status Session::Report(const v1::ReportBatchRequest& request,
                             v1::ReportBatchResponse* response) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(options_.clock->Now() + options_.rpc_deadline));
  return FromGrpc(stub_->ReportBatch(&context, request, response));
}

void Session::Run() {
  absl::Duration back_off = absl::Milliseconds(50);
  std::string said;  // the same trouble is logged once
  while (!stopping()) {
    const absl::Status registered = RegisterOnce();
    if (registered.ok()) {
      back_off = absl::Milliseconds(50);
      said.clear();
      spdlog::info("registered with the coordinator {}", options_.address);
      const absl::Status lost = RunStream();
      handler_.OnLost(lost);
      if (!stopping())
        spdlog::warn("lost the session with {}: {}", options_.address, lost.ToString());
    } else if (const std::string text = registered.ToString(); text != said && !stopping()) {
      const std::string advice = options_.advise ? options_.advise(text) : "";
      spdlog::warn("cannot register with {}: {}{}{} (trying on)", options_.address, text,
                   advice.empty() ? "" : ": ", advice);
      said = text;
    }
    BackOff(back_off);
    back_off = std::min(2 * back_off, options_.longest_back_off);
  }
}

void Session::BackOff(absl::Duration at_most) {
  // Half of it fixed, half random: workers that lost the same coordinator do not come back in step.
  const absl::Duration wait = at_most * (0.5 + 0.5 * options_.random.Uniform());
  const absl::Duration until = options_.clock->SinceBoot() + wait;
  // A connection makes headway only while somebody waits for it: a call that fails at once, because
  // the last attempt did, does not.
  while (!stopping() && options_.clock->SinceBoot() < until) {
    const absl::Duration left = until - options_.clock->SinceBoot();
    const absl::Time slice = options_.clock->Now() + std::min(left, absl::Milliseconds(50));
    if (options_.channel->WaitForConnected(absl::ToChronoTime(slice))) break;
  }
  sae::MutexLock lock(mu_);
  while (!stopping_) {
    const absl::Duration left = until - options_.clock->SinceBoot();
    if (left <= absl::ZeroDuration()) return;
    changed_.WaitFor(mu_, left);
  }
}

absl::Status Session::RegisterOnce() {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(options_.clock->Now() + options_.rpc_deadline));
  const v1::RegisterRequest request = handler_.MakeRegister();
  v1::RegisterResponse response;
  {
    sae::MutexLock lock(mu_);
    if (stopping_) return absl::CancelledError("stopping");
    context_ = &context;
    give_up_ = false;
  }
  const absl::Duration sent = options_.clock->SinceBoot();
  const absl::Status status = FromGrpc(stub_->Register(&context, request, &response));
  {
    sae::MutexLock lock(mu_);
    context_ = nullptr;
    if (status.ok()) ++registrations_;
  }
  if (!status.ok()) return status;
  const absl::Duration interval = FromProto(response.heartbeat_interval());
  if (interval > absl::ZeroDuration()) heartbeat_interval_ = interval;
  const absl::Duration lease = FromProto(response.lease());
  if (lease > absl::ZeroDuration()) lease_ = lease;
  handler_.OnRegistered(response, sent);
  return absl::OkStatus();
}

bool Session::WaitInStream(absl::Duration timeout) {
  const absl::Duration until = options_.clock->SinceBoot() + timeout;
  sae::MutexLock lock(mu_);
  while (!stopping_ && !give_up_ && !nudged_) {
    const absl::Duration left = until - options_.clock->SinceBoot();
    if (left <= absl::ZeroDuration()) break;
    changed_.WaitFor(mu_, left);
  }
  nudged_ = false;
  return !stopping_ && !give_up_;
}

absl::Status Session::RunStream() {
  grpc::ClientContext context;
  auto stream = stub_->Session(&context);
  {
    sae::MutexLock lock(mu_);
    context_ = &context;
    answered_ = false;
    if (stopping_) context.TryCancel();
  }
  std::atomic<bool> over = false;  // the coordinator ended it, and Finish will say why
  std::thread reader([&] {
    v1::CoordinatorMessage message;
    while (stream->Read(&message)) {
      {
        sae::MutexLock lock(mu_);
        answered_ = true;
      }
      handler_.OnMessage(message);
    }
    over = true;
    Reregister();  // ends the writer, too
  });
  absl::Duration heard = options_.clock->SinceBoot();
  bool silent = false;
  for (bool go_on = true; go_on;) {
    if (!stream->Write(handler_.MakeHeartbeat())) break;
    go_on = WaitInStream(heartbeat_interval_);
    sae::MutexLock lock(mu_);
    const absl::Duration now = options_.clock->SinceBoot();
    if (answered_) heard = now;
    answered_ = false;
    // A connection can be dead without an error; a lease without an answer is proof enough.
    silent = now - heard > lease_;
    if (silent) go_on = false;
  }
  if (!over) context.TryCancel();
  reader.join();
  const absl::Status status = FromGrpc(stream->Finish());
  sae::MutexLock lock(mu_);
  context_ = nullptr;
  give_up_ = false;
  if (silent) return absl::UnavailableError("no answer for a whole lease");
  return status;
}

}  // namespace saeloom::agent
