// The binary: ports, exit codes, signals, and going on after kill -9.
#include <arpa/inet.h>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <netinet/in.h>
#include <nlohmann/json.hpp>
#include <sqlite3.h>
#include <sys/socket.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "proto/convert/sweep_convert.h"
#include "proto/transport/credentials.h"
#include "proto/transport/testing/test_ca.h"
#include "sae/base/env.h"
#include "sae/base/process.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "server/testing/core_fixture.h"
#include "server/testing/rpc_worker.h"

namespace sae::server::testing {
namespace {
namespace v1 = saeloom::v1;
using config::EventKind;
using ::testing::HasSubstr;

std::string Get(const std::string& address, const std::string& path) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port =
      htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  std::string out;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) {
    const std::string request = "GET " + path + " HTTP/1.0\r\nHost: localhost\r\n\r\n";
    EXPECT_EQ(::write(fd, request.data(), request.size()), static_cast<ssize_t>(request.size()));
    char buffer[4096];
    for (ssize_t n = 0; (n = ::read(fd, buffer, sizeof buffer)) > 0;)
      out.append(buffer, static_cast<std::size_t>(n));
  }
  ::close(fd);
  return out;
}

class BinaryTest : public ::testing::Test {
 protected:
  BinaryTest() {
    std::string path = ::testing::TempDir() + "/coordinator_XXXXXX";
    folder_ = ::mkdtemp(path.data());
  }
  ~BinaryTest() override {
    process_.reset();
    if (HasFailure()) std::fprintf(stderr, "%s\n", Stderr().c_str());
    std::filesystem::remove_all(folder_);
  }
  ProcessSpec Spec(std::vector<std::string> flags) const {
    ProcessSpec spec;
    spec.argv = {SAE_COORDINATOR};
    spec.argv.insert(spec.argv.end(), flags.begin(), flags.end());
    spec.errors = folder_ + "/stderr";
    return spec;
  }
  std::string Stderr() const { return RealEnv().Read(folder_ + "/stderr").value_or(""); }
  /// Runs to its end; returns the exit code.
  int Run(std::vector<std::string> flags) {
    const auto run = RunProcess(Spec(std::move(flags)), absl::Seconds(40));
    EXPECT_TRUE(run.ok()) << run.status();
    return run.ok() ? run->exit.ShellCode() : -1;
  }
  void Start(std::vector<std::string> more = {}) {
    const std::string ports = folder_ + "/ports.json";
    std::filesystem::remove(ports);
    std::vector<std::string> flags = {"--data", folder_ + "/data", "--port-file", ports};
    flags.insert(flags.end(), more.begin(), more.end());
    ProcessSpec spec = Spec(flags);
    spec.output = folder_ + "/stdout";
    auto process = Process::Spawn(spec);
    ASSERT_TRUE(process.ok()) << process.status();
    process_ = std::move(*process);
    while (!RealEnv().Exists(ports)) {
      ASSERT_FALSE(process_->Wait(absl::Milliseconds(10)).value().has_value()) << Stderr();
    }
    const auto json = nlohmann::json::parse(RealEnv().Read(ports).value());
    listen_ = json.at("listen");
    metrics_ = json.at("metrics");
  }
  std::shared_ptr<grpc::Channel> Connect() const {
    return grpc::CreateCustomChannel(listen_, grpc::InsecureChannelCredentials(),
                                     ClientChannelArguments(ChannelUse::kControl));
  }
  std::string folder_, listen_, metrics_;
  std::unique_ptr<Process> process_;
};

TEST_F(BinaryTest, TellsItsPortsServesMetricsAndStopsOnSigterm) {
  Start();
  EXPECT_THAT(RealEnv().Read(folder_ + "/stdout").value(), HasSubstr("SAELOOM_ADDR=" + listen_));
  const std::string page = Get(metrics_, "/metrics");
  EXPECT_THAT(page, HasSubstr("200 OK"));
  EXPECT_THAT(page, HasSubstr("saeloom_build_info"));
  ASSERT_TRUE(process_->Signal(SIGTERM).ok());
  const auto exit = process_->Wait(absl::Seconds(40)).value();
  ASSERT_TRUE(exit.has_value());
  EXPECT_EQ(exit->ShellCode(), 0) << Stderr();
}

TEST_F(BinaryTest, BadUsesHaveTheirExitCodesAndOneClearError) {
  EXPECT_EQ(Run({"--help"}), 0);
  EXPECT_EQ(Run({"--version"}), 0);
  EXPECT_EQ(Run({}), 2);
  EXPECT_EQ(Run({"--data", folder_ + "/data", "--lisen", "x"}), 2);
  EXPECT_EQ(Run({"--data", folder_ + "/data", "--lease", "soon"}), 2);
  EXPECT_EQ(Run({"--data", folder_ + "/data", "--lease", "3s", "--heartbeat", "3s"}), 2);
  EXPECT_EQ(Run({"--data", folder_ + "/data", "--listen", "0.0.0.0:0"}), 4);
  EXPECT_THAT(Stderr(), HasSubstr("--insecure-bind-anywhere"));
  EXPECT_FALSE(RealEnv().Exists(folder_ + "/data")) << "no partial output";
}

TEST_F(BinaryTest, PortsAndDatabasesInUseAreNamed) {
  Start();
  EXPECT_EQ(Run({"--data", folder_ + "/data"}), 5);
  EXPECT_THAT(Stderr(), HasSubstr("in use by another process"));
  EXPECT_EQ(Run({"--data", folder_ + "/other", "--listen", listen_}), 5);
  EXPECT_THAT(Stderr(), HasSubstr("--listen: cannot bind " + listen_));
  EXPECT_EQ(Run({"--data", folder_ + "/other", "--metrics-listen", metrics_}), 5);
  EXPECT_THAT(Stderr(), HasSubstr("--metrics-listen: cannot bind " + metrics_));
}

TEST_F(BinaryTest, GoesOnAfterKill9) {
  Start();
  v1::CreateSweepRequest request;
  *request.mutable_spec() = sae::ToProto(MakeSpec("s", 1));
  v1::Sweep sweep;
  {
    const auto channel = Connect();
    grpc::ClientContext context;
    SetDeadline(context);
    const grpc::Status status =
        v1::SweepService::NewStub(channel)->CreateSweep(&context, request, &sweep);
    ASSERT_TRUE(status.ok()) << status.error_message();
    RpcWorker worker(channel, "w", 1);
    worker.WaitForCommand();
    ASSERT_EQ(worker.Report("s", "0000", 1, 1,
                            {Line(1, EventKind::kStarted), Line(2, EventKind::kMetrics, 5)}),
              2);
    ASSERT_TRUE(process_->Signal(SIGKILL).ok());
    ASSERT_TRUE(process_->Wait(absl::Seconds(40)).value().has_value());
  }
  Start({"--listen", listen_});
  const auto channel = Connect();
  RpcWorker worker(channel, "w", 1, {{"s", "0000", 1}});
  EXPECT_EQ(worker.registered().epoch(), 2);
  ASSERT_EQ(worker.registered().attempts_size(), 1);
  EXPECT_TRUE(worker.registered().attempts(0).wanted());
  EXPECT_EQ(worker.registered().attempts(0).seq(), 2);
  ASSERT_EQ(worker.Report("s", "0000", 1, 3, {Line(3, EventKind::kFinished, 9)}), 3);
  v1::StartAttempt start;
  start.set_sweep("s");
  start.set_trial("0000");
  start.set_attempt(1);
  worker.End(start, 0, "finished");
  grpc::ClientContext context;
  SetDeadline(context);
  v1::GetSweepRequest get;
  get.set_name("s");
  ASSERT_TRUE(v1::SweepService::NewStub(channel)->GetSweep(&context, get, &sweep).ok());
  EXPECT_EQ(sweep.state(), v1::Sweep::STATE_SUCCEEDED);
}

TEST_F(BinaryTest, TheFirstStartWithTlsLeavesATokenForAnAdmin) {
  sae::testing::TestCa ca;
  ca.Write(folder_ + "/tls", ca.Issue());
  Start({"--tls-dir", folder_ + "/tls", "--listen", "127.0.0.1:0"});
  const std::string path = folder_ + "/data/admin.token";
  const std::string first = RealEnv().Read(path).value();
  for (const std::string& file : {path, folder_ + "/data/coordinator.db"}) {
    EXPECT_EQ(std::filesystem::status(file).permissions(),
              std::filesystem::perms::owner_read | std::filesystem::perms::owner_write)
        << file;
  }
  ClientCredentialOptions options;
  options.tls.ca = folder_ + "/tls/ca.pem";
  const auto who = [&](const std::string& token_file) {
    options.token_file = token_file;
    const auto channel =
        grpc::CreateCustomChannel(listen_, MakeClientCredentials(options, listen_).value(),
                                  ClientChannelArguments(ChannelUse::kControl));
    grpc::ClientContext context;
    SetDeadline(context);
    v1::WhoAmIResponse response;
    const grpc::Status status =
        v1::AuthService::NewStub(channel)->WhoAmI(&context, v1::WhoAmIRequest(), &response);
    return status.ok() ? response.role() : status.error_message();
  };
  EXPECT_EQ(who(path), "admin");
  EXPECT_THAT(who(""), HasSubstr("answers only callers that it knows"));
  ASSERT_TRUE(process_->Signal(SIGKILL).ok());
  ASSERT_TRUE(process_->Wait(absl::Seconds(40)).value().has_value());
  EXPECT_EQ(Run({"--data", folder_ + "/data", "--create-admin-token", folder_ + "/second"}), 0);
  EXPECT_EQ(Run({"--data", folder_ + "/data", "--create-admin-token", folder_ + "/second"}), 5);
  EXPECT_THAT(Stderr(), HasSubstr("/second exists"));
  Start({"--tls-dir", folder_ + "/tls", "--listen", listen_});
  EXPECT_EQ(RealEnv().Read(path).value(), first) << "only the first time";
  EXPECT_EQ(who(path), "admin");
  EXPECT_EQ(who(folder_ + "/second"), "admin");
}

TEST_F(BinaryTest, BadCertificatesAreNamedAtTheStart) {
  sae::testing::TestCa ca;
  const TlsFiles files = ca.Write(folder_ + "/tls", ca.Issue());
  EXPECT_EQ(Run({"--data", folder_ + "/data", "--tls-dir", folder_ + "/tls", "--tls-ca", "x"}), 2);
  EXPECT_EQ(Run({"--data", folder_ + "/data", "--tls-cert", files.cert}), 2);
  EXPECT_THAT(Stderr(), HasSubstr("give the key of " + files.cert));
  ASSERT_TRUE(WriteFileAtomically(RealEnv(), files.key, ca.Issue().key).ok());
  EXPECT_EQ(Run({"--data", folder_ + "/data", "--tls-dir", folder_ + "/tls"}), 5);
  EXPECT_THAT(Stderr(), HasSubstr("is not the private key of " + files.cert));
  EXPECT_FALSE(RealEnv().Exists(folder_ + "/data")) << "no partial output";
}

TEST_F(BinaryTest, ANewerDatabaseIsRefusedWithTheRemedy) {
  Start();
  ASSERT_TRUE(process_->Signal(SIGTERM).ok());
  ASSERT_TRUE(process_->Wait(absl::Seconds(40)).value().has_value());
  sqlite3* db = nullptr;
  ASSERT_EQ(sqlite3_open((folder_ + "/data/coordinator.db").c_str(), &db), SQLITE_OK);
  ASSERT_EQ(sqlite3_exec(db, "PRAGMA user_version=9", nullptr, nullptr, nullptr), SQLITE_OK);
  sqlite3_close(db);
  EXPECT_EQ(Run({"--data", folder_ + "/data"}), 5);
  EXPECT_THAT(Stderr(), HasSubstr("has schema 9, this version knows 3"));
}

}  // namespace
}  // namespace sae::server::testing
