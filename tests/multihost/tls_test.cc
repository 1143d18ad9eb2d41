// Gangs over several hosts where every connection is TLS and workers show certificates: to the
// coordinator, and to each other when saeloom-rsh starts a daemon on a peer.

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include "proto/transport/credentials.h"
#include "proto/transport/testing/test_ca.h"
#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "saeloom/v1/peer_service.grpc.pb.h"
#include "tests/multihost/service_world.h"

namespace saeloom::multihost {
namespace {
using ::testing::AnyOf;
using ::testing::HasSubstr;
using ::testing::Not;

class TlsTest : public ServiceWorld {
 protected:
  void SetUp() override {
    ServiceWorld::SetUp();
    if (IsSkipped()) return;
    sae::testing::IssueOptions own;
    own.addresses = {kOwnAddress};
    ca_.Write(folder_ / "tls/coordinator", ca_.Issue(own));
    for (int host = 1; host <= 2; ++host) Certify(ca_, host);
  }
  void Certify(sae::testing::TestCa& ca, int host) {
    const std::string name = NetHosts::Name(host);
    sae::testing::IssueOptions issue;
    issue.dns = {name};
    issue.addresses = {NetHosts::Address(host)};
    issue.uris = {sae::WorkerUri({"saeloom", name})};
    ca.Write(Folder(host), ca.Issue(issue));
  }
  std::string Folder(int host) const { return folder_ / ("tls/" + NetHosts::Name(host)); }
  /// The CAs that this folder's owner believes.
  static void Believe(const std::string& folder, const std::string& cas) {
    ASSERT_TRUE(sae::WriteFileAtomically(sae::RealEnv(), folder + "/ca.pem", cas).ok());
  }

  std::vector<std::string> CoordinatorSecurity() override {
    return {"--tls-dir", folder_ / "tls/coordinator"};
  }
  std::vector<std::string> WorkerSecurity(int host) override { return {"--tls-dir", Folder(host)}; }
  std::shared_ptr<grpc::ChannelCredentials> Credentials() override {
    sae::ClientCredentialOptions options;
    options.tls.ca = folder_ / "tls/coordinator/ca.pem";
    options.token_file = folder_ / "data/admin.token";
    auto credentials = sae::MakeClientCredentials(options, address_);
    EXPECT_TRUE(credentials.ok()) << credentials.status();
    return credentials.ok() ? *credentials : nullptr;
  }
  /// HOST:PORT of a worker's PeerService, as its log tells.
  std::string PeerAddress(int host) const {
    const std::string log =
        sae::RealEnv().Read(folder_ / (NetHosts::Name(host) + ".log")).value_or("");
    const std::string before = "for gangs over several workers: ";
    const std::size_t at = log.find(before);
    if (at == std::string::npos) return "";
    return log.substr(at + before.size(), log.find(' ', at + before.size()) - at - before.size());
  }
  static grpc::Status Exec(const std::string& address,
                           const sae::ClientCredentialOptions& options) {
    const auto credentials = sae::MakeClientCredentials(options, address);
    EXPECT_TRUE(credentials.ok()) << credentials.status();
    v1::PeerService::Stub stub(grpc::CreateChannel(address, *credentials));
    grpc::ClientContext context;
    context.set_deadline(absl::ToChronoTime(sae::RealClock().Now() + absl::Seconds(20)));
    const auto stream = stub.Exec(&context);
    stream->WritesDone();
    return stream->Finish();
  }

  sae::testing::TestCa ca_;
};

TEST_F(TlsTest, AGangOverTwoHostsTrainsToTheEnd) {
  ASSERT_NO_FATAL_FAILURE(StartService(2, "60s"));
  ASSERT_NO_FATAL_FAILURE(Submit());
  ExpectSucceeded(1);
  EXPECT_EQ(Trial().attempts(0).hosts_size(), 2) << Trial().DebugString();
  EXPECT_TRUE(Eventually([&] { return NothingRunsOn(1) && NothingRunsOn(2); }));

  // What a peer answers to those whom it need not know.
  const std::string peer = PeerAddress(2);
  EXPECT_THAT(peer, HasSubstr(NetHosts::Address(2) + ":"));
  EXPECT_EQ(Exec(peer, {}).error_code(), grpc::StatusCode::UNAVAILABLE) << "plain text";
  sae::ClientCredentialOptions stranger;
  stranger.tls.ca = Folder(1) + "/ca.pem";
  EXPECT_EQ(Exec(peer, stranger).error_code(), grpc::StatusCode::UNAVAILABLE) << "no certificate";
  stranger.tls = sae::TlsFilesIn(folder_ / "tls/coordinator");
  EXPECT_EQ(Exec(peer, stranger).error_code(), grpc::StatusCode::UNAUTHENTICATED) << "no worker";
}

// The coordinator believes both, but the first host does not believe the second one's authority.
TEST_F(TlsTest, APeerOfAnotherCaIsRefusedAndTheTrialSaysWhy) {
  sae::testing::TestCa other;
  Certify(other, 2);
  Believe(folder_ / "tls/coordinator", ca_.pem() + other.pem());
  Believe(Folder(2), ca_.pem() + other.pem());
  ASSERT_NO_FATAL_FAILURE(StartService(2, "60s"));
  ASSERT_NO_FATAL_FAILURE(Submit());
  ASSERT_TRUE(Eventually([&] {
    return Trial().attempts_size() > 0 && Trial().attempts(0).has_end_time();
  })) << Trial().DebugString()
      << Logs();
  const v1::Attempt attempt = Trial().attempts(0);
  EXPECT_EQ(attempt.failure_class(), v1::RENDEZVOUS_TIMEOUT) << attempt.DebugString();
  // The head is whichever was chosen: it does not believe its peer, or is not believed.
  const int peer = 3 - HostOf(0);
  EXPECT_THAT(attempt.reason(), HasSubstr("host " + NetHosts::Address(peer)));
  EXPECT_THAT(attempt.reason(), AnyOf(HasSubstr("has signed the other side's certificate"),
                                      HasSubstr("is signed by a CA that the other side knows")));
  EXPECT_TRUE(Eventually([&] { return hosts_->Find(peer, "saeloom-trainer").empty(); }));
}

}  // namespace
}  // namespace saeloom::multihost
