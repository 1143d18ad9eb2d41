#pragma once
// For tests: the coordinator's services over TLS on a free loopback port, with an in-memory store,
// certificates of a CA of its own, and tokens. Main thread only.

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "proto/convert/channel_options.h"
#include "proto/convert/sweep_convert.h"
#include "proto/transport/credentials.h"
#include "proto/transport/testing/test_ca.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "server/auth/bootstrap.h"
#include "server/service/server.h"
#include "server/store/memory_store.h"
#include "server/testing/core_fixture.h"
#include "server/testing/rpc_worker.h"

namespace sae::server::testing {

/// The machine's clock, whose wall time a test moves.
class MovableClock final : public Clock {
 public:
  absl::Time Now() override {
    MutexLock lock(mu_);
    return RealClock().Now() + ahead_;
  }
  absl::Duration SinceBoot() override { return RealClock().SinceBoot(); }
  void SleepFor(absl::Duration duration) override { RealClock().SleepFor(duration); }
  void JumpWall(absl::Duration duration) {
    MutexLock lock(mu_);
    ahead_ += duration;
  }

 private:
  Mutex mu_;
  absl::Duration ahead_ ABSL_GUARDED_BY(mu_);
};

class SecureServerTest : public ::testing::Test {
 protected:
  /// gRPC tells of every refused handshake, which are what these tests make.
  static void SetUpTestSuite() { ::setenv("GRPC_VERBOSITY", "NONE", 0); }

  SecureServerTest() {
    std::string path = ::testing::TempDir() + "/secure_XXXXXX";
    folder_ = ::mkdtemp(path.data());
    files_ = ca_.Write(folder_ + "/server", ca_.Issue());
    files_.refresh_seconds = 1;
    MemoryStore store(disk_);
    EXPECT_TRUE(store.BeginEpoch().ok());
    const absl::Status made =
        CreateAdminToken(store, folder_ + "/admin.token", false, RealClock().Now(), MachineEntropy)
            .status();
    EXPECT_TRUE(made.ok()) << made;
  }
  ~SecureServerTest() override {
    Stop();
    std::filesystem::remove_all(folder_);
  }
  void Start(ServerOptions options = {}) {
    Coordinator::Options coordinator_options;
    coordinator_options.longest_wait = absl::Milliseconds(20);
    auto coordinator =
        Coordinator::Start(coordinator_options, clock_, std::make_unique<MemoryStore>(disk_));
    ASSERT_TRUE(coordinator.ok()) << coordinator.status();
    coordinator_ = std::move(*coordinator);
    options.watch_heartbeat = absl::Milliseconds(50);
    options.tls = files_;
    auto server = Server::Start(options, *coordinator_, nullptr);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    admin_ = Channel(folder_ + "/admin.token");
  }
  void Stop() {
    admin_ = nullptr;
    if (server_ != nullptr) server_->Stop(absl::Seconds(5));
    server_ = nullptr;
    coordinator_ = nullptr;
  }

  std::shared_ptr<grpc::Channel> Connect(const ClientCredentialOptions& options) const {
    const auto credentials = MakeClientCredentials(options, server_->address());
    EXPECT_TRUE(credentials.ok()) << credentials.status();
    return grpc::CreateCustomChannel(server_->address(), *credentials,
                                     ClientChannelArguments(ChannelUse::kControl));
  }
  /// With the token in a file; "" = none.
  std::shared_ptr<grpc::Channel> Channel(const std::string& token_file) const {
    ClientCredentialOptions options;
    options.tls.ca = files_.ca;
    options.token_file = token_file;
    return Connect(options);
  }
  std::shared_ptr<grpc::Channel> WorkerChannel(const std::string& name) {
    ClientCredentialOptions options;
    options.tls = ca_.Write(folder_ + "/" + name, ca_.IssueWorker(name));
    return Connect(options);
  }
  template <typename Response, typename Stub, typename Request>
  static std::pair<grpc::Status, Response> Call(const std::shared_ptr<grpc::Channel>& channel,
                                                grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                                             const Request&,
                                                                             Response*),
                                                const Request& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    Response response;
    Stub stub(channel);
    const grpc::Status status = (stub.*method)(&context, request, &response);
    return {status, response};
  }
  /// Makes a token by the API and writes it to a file; returns its path.
  std::string TokenOf(const std::string& principal, const std::string& role,
                      std::int64_t ttl_seconds = 0) {
    saeloom::v1::CreateTokenRequest request;
    request.set_principal(principal);
    request.set_role(role);
    request.set_ttl_seconds(ttl_seconds);
    const auto [status, response] = Call<saeloom::v1::CreateTokenResponse>(
        admin_, &saeloom::v1::AuthService::Stub::CreateToken, request);
    EXPECT_TRUE(status.ok()) << status.error_message();
    std::string path = folder_ + "/" + principal + ".token";
    EXPECT_TRUE(WriteFileAtomically(RealEnv(), path, response.secret()).ok());
    ids_[principal] = response.token().id();
    return path;
  }
  grpc::Status Create(const std::shared_ptr<grpc::Channel>& channel, const std::string& name,
                      const std::string& request_id = "") {
    saeloom::v1::CreateSweepRequest request;
    *request.mutable_spec() = sae::ToProto(MakeSpec(name, 1));
    request.set_request_id(request_id);
    return Call<saeloom::v1::Sweep>(channel, &saeloom::v1::SweepService::Stub::CreateSweep, request)
        .first;
  }
  std::vector<saeloom::v1::ListAuditEventsResponse::AuditEvent> Audit() const {
    const auto [status, response] = Call<saeloom::v1::ListAuditEventsResponse>(
        admin_, &saeloom::v1::AuthService::Stub::ListAuditEvents,
        saeloom::v1::ListAuditEventsRequest());
    EXPECT_TRUE(status.ok()) << status.error_message();
    return {response.events().begin(), response.events().end()};
  }
  /// One unary or server-streaming call of nothing, by its name: its status.
  static grpc::Status RawCall(const std::shared_ptr<grpc::Channel>& channel,
                              const std::string& method) {
    grpc::GenericStub stub(channel);
    grpc::ClientContext context;
    SetDeadline(context);
    const grpc::Slice nothing("");
    const grpc::ByteBuffer in(&nothing, 1);
    grpc::ByteBuffer out;
    grpc::CompletionQueue queue;
    grpc::Status status;
    const auto call = stub.PrepareUnaryCall(&context, method, in, &queue);
    call->StartCall();
    call->Finish(&out, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    return status;
  }

  std::string folder_;
  sae::testing::TestCa ca_;
  TlsFiles files_;
  MovableClock clock_;
  std::shared_ptr<MemoryStore::Disk> disk_ = std::make_shared<MemoryStore::Disk>();
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> admin_;
  std::map<std::string, std::string> ids_;  ///< of tokens, by principal
};

}  // namespace sae::server::testing
