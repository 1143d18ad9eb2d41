// Credentials on real connections over loopback: who gets through, who does not, and what the
// other side is told.
#include "proto/transport/credentials.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <mutex>

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/server.h>
#include <grpcpp/server_builder.h>
#include <gtest/gtest.h>

#include "proto/convert/channel_options.h"
#include "proto/transport/testing/test_ca.h"
#include "sae/base/clock.h"

namespace sae {
namespace {
using sae::testing::IssueOptions;
using sae::testing::TestCa;
using ::testing::HasSubstr;

/// Answers every unary call with nothing, and keeps who called.
class Service final : public grpc::CallbackGenericService {
 public:
  grpc::ServerGenericBidiReactor* CreateReactor(
      grpc::GenericCallbackServerContext* context) override {
    {
      const std::lock_guard<std::mutex> lock(mu_);
      worker_ = WorkerOfPeer(*context->auth_context(), "saeloom");
      const auto it = context->client_metadata().find("authorization");
      authorization_ = it == context->client_metadata().end()
                           ? ""
                           : std::string(it->second.data(), it->second.size());
    }
    class Reactor final : public grpc::ServerGenericBidiReactor {
     public:
      Reactor() { Finish(grpc::Status::OK); }
      void OnDone() override { delete this; }
    };
    return new Reactor;
  }
  std::string worker() {
    const std::lock_guard<std::mutex> lock(mu_);
    return worker_ ? worker_->name : "";
  }
  std::string authorization() {
    const std::lock_guard<std::mutex> lock(mu_);
    return authorization_;
  }

 private:
  std::mutex mu_;
  std::optional<WorkerIdentity> worker_;
  std::string authorization_;
};

class CredentialsTest : public ::testing::Test {
 protected:
  /// gRPC tells of every refused handshake, which are what these tests make.
  static void SetUpTestSuite() { ::setenv("GRPC_VERBOSITY", "NONE", 0); }
  CredentialsTest() {
    std::string path = ::testing::TempDir() + "/credentials_XXXXXX";
    folder_ = ::mkdtemp(path.data());
  }
  ~CredentialsTest() override {
    if (server_ != nullptr) server_->Shutdown();
    std::filesystem::remove_all(folder_);
  }
  void Serve(ClientCertificates how, const IssueOptions& issue = {}) {
    server_files_ = ca_.Write(folder_ + "/server", ca_.Issue(issue));
    server_files_.refresh_seconds = 1;
    Start(server_files_, how);
  }
  void Start(const TlsFiles& files, ClientCertificates how) {
    const auto credentials = MakeServerCredentials(files, how);
    ASSERT_TRUE(credentials.ok()) << credentials.status();
    grpc::ServerBuilder builder;
    int port = 0;
    builder.AddListeningPort("127.0.0.1:0", *credentials, &port);
    builder.RegisterCallbackGenericService(&service_);
    server_ = builder.BuildAndStart();
    ASSERT_NE(server_, nullptr);
    target_ = absl::StrCat("127.0.0.1:", port);
  }
  /// One call on a connection of its own.
  grpc::Status Call(const ClientCredentialOptions& options) {
    const auto credentials = MakeClientCredentials(options, target_);
    EXPECT_TRUE(credentials.ok()) << credentials.status();
    if (!credentials.ok()) return grpc::Status(grpc::StatusCode::INTERNAL, "no credentials");
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto channel = grpc::CreateCustomChannel(target_, *credentials, arguments);
    grpc::GenericStub stub(channel);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    grpc::ByteBuffer in, out;
    const grpc::Slice nothing("");
    in = grpc::ByteBuffer(&nothing, 1);
    grpc::CompletionQueue queue;
    grpc::Status status;
    const auto call = stub.PrepareUnaryCall(&context, "/a.Service/Method", in, &queue);
    call->StartCall();
    call->Finish(&out, &status, nullptr);
    void* tag = nullptr;
    bool ok = false;
    queue.Next(&tag, &ok);
    // A unary call needs a message, which this service does not send: it came through.
    if (status.error_code() == grpc::StatusCode::UNIMPLEMENTED ||
        status.error_code() == grpc::StatusCode::INTERNAL)
      return grpc::Status::OK;
    return status;
  }
  ClientCredentialOptions Believing(const std::string& ca) const {
    ClientCredentialOptions options;
    options.tls.ca = ca;
    return options;
  }
  std::string Write(const std::string& name, const std::string& text) const {
    const std::string path = folder_ + "/" + name;
    EXPECT_TRUE(WriteFileAtomically(RealEnv(), path, text).ok());
    return path;
  }

  std::string folder_;
  TestCa ca_;
  TlsFiles server_files_;
  Service service_;
  std::unique_ptr<grpc::Server> server_;
  std::string target_;
};

TEST_F(CredentialsTest, ATokenGoesOverTlsAndIsReadAtEveryCall) {
  Serve(ClientCertificates::kVerifiedIfGiven);
  ClientCredentialOptions options = Believing(server_files_.ca);
  options.token_file = Write("token", "saeloom_a_b\n");
  EXPECT_TRUE(Call(options).ok());
  EXPECT_EQ(service_.authorization(), "Bearer saeloom_a_b");
  EXPECT_EQ(service_.worker(), "");
  Write("token", "saeloom_a_c\n");
  EXPECT_TRUE(Call(options).ok());
  EXPECT_EQ(service_.authorization(), "Bearer saeloom_a_c");
}

TEST_F(CredentialsTest, AWorkerIsKnownByItsCertificate) {
  Serve(ClientCertificates::kVerifiedIfGiven);
  ClientCredentialOptions options;
  options.tls = ca_.Write(folder_ + "/worker", ca_.IssueWorker("gpu-1"));
  EXPECT_TRUE(Call(options).ok());
  EXPECT_EQ(service_.worker(), "gpu-1");
}

TEST_F(CredentialsTest, ANameThatIsNoUriIsNoIdentity) {
  Serve(ClientCertificates::kVerifiedIfGiven);
  IssueOptions issue;
  issue.dns = {"spiffe://saeloom/worker/gpu-1"};
  issue.uris = {"spiffe://elsewhere/worker/gpu-1"};
  ClientCredentialOptions options;
  options.tls = ca_.Write(folder_ + "/worker", ca_.Issue(issue));
  EXPECT_TRUE(Call(options).ok());
  EXPECT_EQ(service_.worker(), "");
}

TEST_F(CredentialsTest, AServerOfAnotherCaIsNotBelieved) {
  Serve(ClientCertificates::kVerifiedIfGiven);
  const std::string other = Write("other.pem", TestCa().pem());
  const grpc::Status status = Call(Believing(other));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(ConnectionAdvice(Believing(other), status.error_message()),
              HasSubstr("check that the CA file (" + other))
      << status.error_message();
}

TEST_F(CredentialsTest, AServerOfAnotherNameIsNotBelieved) {
  IssueOptions issue;
  issue.dns = {"elsewhere.example"};
  issue.addresses = {"192.0.2.1"};
  Serve(ClientCertificates::kVerifiedIfGiven, issue);
  const grpc::Status status = Call(Believing(server_files_.ca));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(ConnectionAdvice(Believing(server_files_.ca), status.error_message()),
              HasSubstr("names the host you call"))
      << status.error_message();
}

TEST_F(CredentialsTest, AClientOfAnotherCaIsRefused) {
  Serve(ClientCertificates::kVerifiedIfGiven);
  TestCa other;
  ClientCredentialOptions options;
  options.tls = other.Write(folder_ + "/worker", other.IssueWorker("gpu-1"));
  options.tls.ca = server_files_.ca;
  const grpc::Status status = Call(options);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(service_.worker(), "");
  EXPECT_THAT(ConnectionAdvice(options, status.error_message()),
              HasSubstr("signed by a CA that the other side knows"))
      << status.error_message();
}

TEST_F(CredentialsTest, NoCertificateIsRefusedWhereOneIsRequired) {
  Serve(ClientCertificates::kRequired);
  EXPECT_EQ(Call(Believing(server_files_.ca)).error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(ConnectionAdvice(Believing(server_files_.ca), "deadline"), "");
  EXPECT_THAT(ConnectionAdvice(Believing(server_files_.ca), "handshaker shutdown"),
              HasSubstr("was cut off or did not end in time"));
  ClientCredentialOptions options;
  options.tls = ca_.Write(folder_ + "/worker", ca_.IssueWorker("gpu-1"));
  EXPECT_TRUE(Call(options).ok());
}

TEST_F(CredentialsTest, AClientWithoutTlsIsToldSo) {
  Serve(ClientCertificates::kVerifiedIfGiven);
  const grpc::Status status = Call({});
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(ConnectionAdvice({}, status.error_message()), HasSubstr("give the file with its CA"))
      << status.error_message();
}

TEST_F(CredentialsTest, AServerWithoutTlsIsNamedAsSuch) {
  Start({}, ClientCertificates::kVerifiedIfGiven);
  const std::string ca = Write("any.pem", ca_.pem());
  const grpc::Status status = Call(Believing(ca));
  EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_THAT(ConnectionAdvice(Believing(ca), status.error_message()), HasSubstr("speaks no TLS"))
      << status.error_message();
}

TEST(Credentials, AConnectionHasTimeForAHandshakeOverASlowLink) {
  const grpc::ChannelArguments arguments = ClientChannelArguments(ChannelUse::kControl);
  const grpc_channel_args raw = arguments.c_channel_args();
  int milliseconds = 0;
  for (std::size_t i = 0; i < raw.num_args; ++i) {
    if (std::string(raw.args[i].key) == GRPC_ARG_MIN_RECONNECT_BACKOFF_MS)
      milliseconds = raw.args[i].value.integer;
  }
  EXPECT_GE(milliseconds, 1000);
}

TEST_F(CredentialsTest, ARenewedCertificateIsServedWithoutARestart) {
  Serve(ClientCertificates::kVerifiedIfGiven);
  TestCa next;
  const std::string next_ca = Write("next.pem", next.pem());
  EXPECT_EQ(Call(Believing(next_ca)).error_code(), grpc::StatusCode::UNAVAILABLE);
  next.Write(folder_ + "/server", next.Issue());
  const absl::Duration end = RealClock().SinceBoot() + absl::Seconds(30);
  while (!Call(Believing(next_ca)).ok()) {
    ASSERT_LT(RealClock().SinceBoot(), end) << "the new certificate never came";
  }
  const std::string old_ca = Write("old.pem", ca_.pem());
  EXPECT_EQ(Call(Believing(old_ca)).error_code(), grpc::StatusCode::UNAVAILABLE);
}

TEST(Credentials, ATokenIsNeverSentWithoutTls) {
  ClientCredentialOptions options;
  options.token_file = "/secrets/token";
  const auto far = MakeClientCredentials(options, "head:7411");
  EXPECT_TRUE(absl::IsInvalidArgument(far.status())) << far.status();
  EXPECT_THAT(Message(far.status()), HasSubstr("a token is never sent without TLS"));
  EXPECT_TRUE(MakeClientCredentials(options, "127.0.0.1:7411").ok()) << "not needed, not read";
}

TEST(Credentials, TheEnvironmentFillsWhatFlagsLeave) {
  const std::map<std::string, std::string> all = {{"SAELOOM_CA", "ca"},
                                                  {"SAELOOM_CERT", "cert"},
                                                  {"SAELOOM_KEY", "key"},
                                                  {"SAELOOM_TOKEN_FILE", "token"}};
  const auto variable = [&all](const std::string& name) {
    const auto it = all.find(name);
    return it == all.end() ? std::string() : it->second;
  };
  ClientCredentialOptions options;
  FillFromEnvironment(variable, options);
  EXPECT_EQ(options.tls.ca, "ca");
  EXPECT_EQ(options.tls.cert, "cert");
  EXPECT_EQ(options.tls.key, "key");
  EXPECT_EQ(options.token_file, "token");

  ClientCredentialOptions flag;
  flag.tls.ca = "mine";
  FillFromEnvironment(variable, flag);
  EXPECT_EQ(flag.tls.ca, "mine");
  EXPECT_EQ(flag.tls.cert, "") << "not half of the one and half of the other";

  ClientCredentialOptions folder;
  FillFromEnvironment(
      [](const std::string& name) {
        return std::string(name == "SAELOOM_TLS_DIR" ? "/certs" : "");
      },
      folder);
  EXPECT_EQ(folder.tls.key, "/certs/key.pem");
}

TEST(Credentials, AServerNeedsAPair) {
  EXPECT_TRUE(absl::IsInvalidArgument(
      MakeServerCredentials({"", "", "ca.pem"}, ClientCertificates::kRequired).status()));
  EXPECT_TRUE(absl::IsInvalidArgument(
      MakeServerCredentials({"c.pem", "k.pem", ""}, ClientCertificates::kRequired).status()));
  EXPECT_TRUE(MakeServerCredentials({}, ClientCertificates::kVerifiedIfGiven).ok());
}

}  // namespace
}  // namespace sae
