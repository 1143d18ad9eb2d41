// Tokens, certificates, ownership, the audit and the limits, through real connections over TLS.
#include <thread>

#include <gmock/gmock.h>

#include "server/testing/secure_server.h"

namespace sae::server::testing {
namespace {
namespace v1 = saeloom::v1;
using grpc::StatusCode;
using ::testing::HasSubstr;
using ::testing::Not;

class SecurityTest : public SecureServerTest {
 protected:
  grpc::Status Get(const std::shared_ptr<grpc::Channel>& channel, const std::string& name) {
    v1::GetSweepRequest request;
    request.set_name(name);
    const auto [status, sweep] =
        Call<v1::Sweep>(channel, &v1::SweepService::Stub::GetSweep, request);
    sweep_ = sweep;
    return status;
  }
  grpc::Status Cancel(const std::shared_ptr<grpc::Channel>& channel, const std::string& name) {
    v1::CancelSweepRequest request;
    request.set_name(name);
    return Call<v1::Sweep>(channel, &v1::SweepService::Stub::CancelSweep, request).first;
  }
  grpc::Status Revoke(const std::string& id) {
    v1::RevokeTokenRequest request;
    request.set_id(id);
    return Call<v1::Token>(admin_, &v1::AuthService::Stub::RevokeToken, request).first;
  }
  v1::WhoAmIResponse WhoAmI(const std::shared_ptr<grpc::Channel>& channel) {
    const auto [status, who] =
        Call<v1::WhoAmIResponse>(channel, &v1::AuthService::Stub::WhoAmI, v1::WhoAmIRequest());
    EXPECT_TRUE(status.ok()) << status.error_message();
    return who;
  }
  v1::Sweep sweep_;
};

TEST_F(SecurityTest, PeopleAreKnownByTokensAndWorkersByCertificates) {
  Start();
  const v1::WhoAmIResponse ann = WhoAmI(Channel(TokenOf("ann", "submitter")));
  EXPECT_EQ(ann.principal(), "ann");
  EXPECT_EQ(ann.role(), "submitter");
  EXPECT_EQ(ann.method(), "token");
  const v1::WhoAmIResponse worker = WhoAmI(WorkerChannel("gpu-1"));
  EXPECT_EQ(worker.principal(), "worker/gpu-1");
  EXPECT_EQ(worker.role(), "worker");
  EXPECT_EQ(worker.method(), "certificate");
  EXPECT_EQ(WhoAmI(admin_).role(), "admin");
}

TEST_F(SecurityTest, NoTokenABadOneAndAnExpiredOneAreRefused) {
  Start();
  EXPECT_EQ(Get(Channel(""), "s").error_code(), StatusCode::UNAUTHENTICATED);
  const std::string bad = folder_ + "/bad";
  ASSERT_TRUE(
      WriteFileAtomically(RealEnv(), bad, "saeloom_0123456789_" + std::string(32, 'z')).ok());
  EXPECT_EQ(Get(Channel(bad), "s").error_code(), StatusCode::UNAUTHENTICATED);
  const auto ann = Channel(TokenOf("ann", "viewer", 3600));
  EXPECT_EQ(Get(ann, "s").error_code(), StatusCode::NOT_FOUND);
  clock_.JumpWall(absl::Minutes(61));
  const grpc::Status status = Get(ann, "s");
  EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(status.error_message(), HasSubstr("of ann has expired at "));
}

TEST_F(SecurityTest, TokensOutliveARestartAndSoDoesTheirEnd) {
  Start();
  const std::string ann = TokenOf("ann", "viewer"), bob = TokenOf("bob", "viewer");
  ASSERT_TRUE(Revoke(ids_["bob"]).ok());
  EXPECT_EQ(Get(Channel(bob), "s").error_code(), StatusCode::UNAUTHENTICATED) << "at once";
  Stop();
  Start();
  EXPECT_EQ(Get(Channel(ann), "s").error_code(), StatusCode::NOT_FOUND);
  const grpc::Status status = Get(Channel(bob), "s");
  EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(status.error_message(), HasSubstr("was revoked"));
}

TEST_F(SecurityTest, TokensAreListedWithoutTheirSecrets) {
  Start();
  const std::string path = TokenOf("ann", "operator", 60);
  const auto [status, list] = Call<v1::ListTokensResponse>(
      admin_, &v1::AuthService::Stub::ListTokens, v1::ListTokensRequest());
  ASSERT_TRUE(status.ok());
  ASSERT_EQ(list.tokens_size(), 2);
  const v1::Token& ann = list.tokens(0).principal() == "ann" ? list.tokens(0) : list.tokens(1);
  EXPECT_EQ(ann.id(), ids_["ann"]);
  EXPECT_EQ(ann.role(), "operator");
  EXPECT_EQ(ann.expire_time().seconds() - ann.create_time().seconds(), 60);
  EXPECT_FALSE(ann.has_last_used_time());
  const std::string secret = RealEnv().Read(path).value().substr(19);
  EXPECT_THAT(list.DebugString(), Not(HasSubstr(secret)));
  for (const auto& [id, record] : disk_->tokens) EXPECT_NE(record.secret_hash, secret);
}

TEST_F(SecurityTest, BadTokensAreNotMade) {
  Start();
  const auto make = [&](const std::string& principal, const std::string& role, std::int64_t ttl,
                        const std::string& id = "") {
    v1::CreateTokenRequest request;
    request.set_principal(principal);
    request.set_role(role);
    request.set_ttl_seconds(ttl);
    request.set_request_id(id);
    return Call<v1::CreateTokenResponse>(admin_, &v1::AuthService::Stub::CreateToken, request)
        .first;
  };
  for (const auto& [principal, role, ttl] :
       std::vector<std::tuple<std::string, std::string, int>>{{"", "viewer", 0},
                                                              {"../ann", "viewer", 0},
                                                              {"anonymous", "admin", 0},
                                                              {"worker/x", "viewer", 0},
                                                              {"ann", "root", 0},
                                                              {"ann", "worker", 0},
                                                              {"ann", "viewer", -1}}) {
    EXPECT_EQ(make(principal, role, ttl).error_code(), StatusCode::INVALID_ARGUMENT)
        << principal << " " << role << " " << ttl;
  }
  ASSERT_TRUE(make("ann", "viewer", 0, "r-1").ok());
  const grpc::Status again = make("ann", "viewer", 0, "r-1");
  EXPECT_EQ(again.error_code(), StatusCode::ALREADY_EXISTS);
  EXPECT_THAT(again.error_message(), HasSubstr("whose secret is told only once"));
  EXPECT_EQ(Revoke("nothing").error_code(), StatusCode::NOT_FOUND);
}

TEST_F(SecurityTest, ARevokedTokenEndsItsOpenStreams) {
  Start();
  ASSERT_TRUE(Create(admin_, "s").ok());
  const auto ann = Channel(TokenOf("ann", "viewer")), bob = Channel(TokenOf("bob", "viewer"));
  v1::WatchSweepRequest request;
  request.set_name("s");
  v1::TelemetryService::Stub ann_stub(ann), bob_stub(bob);
  grpc::ClientContext ann_context, bob_context;
  SetDeadline(ann_context);
  SetDeadline(bob_context);
  const auto ann_reader = ann_stub.WatchSweep(&ann_context, request);
  const auto bob_reader = bob_stub.WatchSweep(&bob_context, request);
  v1::SweepEvent event;
  ASSERT_TRUE(ann_reader->Read(&event));
  ASSERT_TRUE(bob_reader->Read(&event));
  ASSERT_TRUE(Revoke(ids_["ann"]).ok());
  while (ann_reader->Read(&event)) {
  }
  const grpc::Status status = ann_reader->Finish();
  EXPECT_EQ(status.error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_THAT(status.error_message(), HasSubstr("of ann was revoked"));
  ASSERT_TRUE(bob_reader->Read(&event)) << "another's goes on";
  clock_.JumpWall(absl::Hours(24 * 31));
  while (bob_reader->Read(&event)) {
  }
  EXPECT_THAT(bob_reader->Finish().error_message(), HasSubstr("of bob has expired"));
}

TEST_F(SecurityTest, SweepsBelongToWhoSubmittedThem) {
  Start();
  const auto ann = Channel(TokenOf("ann", "submitter")), bob = Channel(TokenOf("bob", "submitter"));
  ASSERT_TRUE(Create(ann, "s").ok());
  EXPECT_TRUE(Get(bob, "s").ok()) << "everybody may look";
  const grpc::Status status = Cancel(bob, "projects/default/sweeps/s");
  EXPECT_EQ(status.error_code(), StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(status.error_message(), HasSubstr("belongs to ann"));
  EXPECT_TRUE(Get(ann, "s").ok());
  EXPECT_EQ(sweep_.state(), v1::Sweep::STATE_RUNNING);
  EXPECT_TRUE(Cancel(ann, "s").ok());
  ASSERT_TRUE(Create(ann, "t").ok());
  EXPECT_TRUE(Cancel(Channel(TokenOf("op", "operator")), "t").ok());
  Stop();
  Start();
  ASSERT_TRUE(Create(Channel(folder_ + "/ann.token"), "u").ok());
  EXPECT_EQ(Cancel(Channel(folder_ + "/bob.token"), "u").error_code(),
            StatusCode::PERMISSION_DENIED);
}

TEST_F(SecurityTest, TheAuditSaysWhoDidWhat) {
  Start();
  const auto ann = Channel(TokenOf("ann", "submitter")), eve = Channel(TokenOf("eve", "viewer"));
  ASSERT_TRUE(Create(ann, "s", "r-1").ok());
  ASSERT_FALSE(Create(ann, "s", "r-2").ok());
  ASSERT_FALSE(Create(eve, "t", "r-3").ok());
  ASSERT_TRUE(Get(eve, "s").ok());
  ASSERT_TRUE(Cancel(ann, "s").ok());
  std::vector<std::string> lines;
  for (const auto& e : Audit()) {
    EXPECT_EQ(e.id(), static_cast<std::int64_t>(lines.size()) + 1);
    if (e.principal() != "(local)") {
      EXPECT_THAT(e.peer(), HasSubstr("127.0.0.1"));
    }
    lines.push_back(absl::StrCat(e.principal(), " ", e.role(), " ", e.method(), " ", e.resource(),
                                 " ", e.request_id(), " ", e.code()));
  }
  EXPECT_EQ(
      lines,
      (std::vector<std::string>{
          absl::StrCat("(local)  CreateToken token ",
                       RealEnv().Read(folder_ + "/admin.token")->substr(8, 10),
                       " of admin: admin  OK"),
          "admin admin CreateToken ann  OK", "admin admin CreateToken eve  OK",
          "ann submitter CreateSweep s r-1 OK", "ann submitter CreateSweep s r-2 ALREADY_EXISTS",
          "eve viewer CreateSweep t r-3 PERMISSION_DENIED", "ann submitter CancelSweep s  OK"}));
  v1::ListAuditEventsRequest filter;
  filter.set_principal("ann");
  filter.set_page_size(2);
  auto [status, page] =
      Call<v1::ListAuditEventsResponse>(admin_, &v1::AuthService::Stub::ListAuditEvents, filter);
  ASSERT_EQ(page.events_size(), 2);
  EXPECT_EQ(page.events(1).request_id(), "r-2");
  filter.set_after_id(page.next_after_id());
  page = Call<v1::ListAuditEventsResponse>(admin_, &v1::AuthService::Stub::ListAuditEvents, filter)
             .second;
  ASSERT_EQ(page.events_size(), 1);
  EXPECT_EQ(page.events(0).method(), "CancelSweep");
  EXPECT_EQ(page.next_after_id(), 0);
}

TEST_F(SecurityTest, AWorkerIsItsCertificatesOnly) {
  Start();
  const auto register_as = [&](const std::shared_ptr<grpc::Channel>& channel,
                               const std::string& id) {
    v1::RegisterRequest request;
    request.set_worker_id(id);
    request.set_incarnation("1");
    request.set_slots(1);
    request.set_runs_directory("/runs");
    request.set_runs_id("runs");
    return Call<v1::RegisterResponse>(channel, &v1::WorkerService::Stub::Register, request).first;
  };
  EXPECT_EQ(register_as(Channel(""), "gpu-1").error_code(), StatusCode::UNAUTHENTICATED);
  EXPECT_EQ(register_as(admin_, "gpu-1").error_code(), StatusCode::PERMISSION_DENIED);
  const auto worker = WorkerChannel("gpu-1");
  EXPECT_TRUE(register_as(worker, "gpu-1-7k2m9x").ok());
  const grpc::Status other = register_as(worker, "gpu-2-7k2m9x");
  EXPECT_EQ(other.error_code(), StatusCode::PERMISSION_DENIED);
  EXPECT_THAT(other.error_message(), HasSubstr("the certificate is for worker \"gpu-1\""));
  // On the stream and in reports, too.
  v1::WorkerService::Stub stub(worker);
  grpc::ClientContext context;
  SetDeadline(context);
  const auto session = stub.Session(&context);
  v1::WorkerMessage message;
  message.set_worker_id("gpu-2-7k2m9x");
  EXPECT_TRUE(session->Write(message));
  v1::CoordinatorMessage answer;
  EXPECT_FALSE(session->Read(&answer));
  EXPECT_EQ(session->Finish().error_code(), StatusCode::PERMISSION_DENIED);
  v1::ReportBatchRequest report;
  report.set_worker_id("gpu-2-7k2m9x");
  EXPECT_EQ(Call<v1::ReportBatchResponse>(worker, &v1::WorkerService::Stub::ReportBatch, report)
                .first.error_code(),
            StatusCode::PERMISSION_DENIED);
}

TEST_F(SecurityTest, AnOperatorsTokenDoesWhereWorkersNeedNoCertificates) {
  ServerOptions options;
  options.gate.require_worker_identity = false;
  Start(options);
  const auto channel = Channel(TokenOf("op", "operator"));
  RpcWorker worker(channel, "w", 1);
  worker.Beat();
  ASSERT_TRUE(Revoke(ids_["op"]).ok());
  EXPECT_EQ(worker.Finish().error_code(), StatusCode::UNAUTHENTICATED);
}

TEST_F(SecurityTest, ACertificateOfAnotherCaOrForAnotherDomainIsNoIdentity) {
  Start();
  sae::testing::TestCa other;
  ClientCredentialOptions options;
  options.tls = other.Write(folder_ + "/other", other.IssueWorker("gpu-1"));
  options.tls.ca = files_.ca;
  EXPECT_EQ(Get(Connect(options), "s").error_code(), StatusCode::UNAVAILABLE);
  sae::testing::IssueOptions issue;
  issue.uris = {"spiffe://elsewhere/worker/gpu-1"};
  options.tls = ca_.Write(folder_ + "/domain", ca_.Issue(issue));
  EXPECT_EQ(Get(Connect(options), "s").error_code(), StatusCode::UNAUTHENTICATED);
}

TEST_F(SecurityTest, RenewedCertificatesAreServedWhileWorkersStay) {
  Start();
  const auto channel = WorkerChannel("w");
  RpcWorker worker(channel, "w", 1);
  worker.Beat();
  // The new one is of another CA, which only new clients believe.
  sae::testing::TestCa next;
  next.Write(folder_ + "/server", next.Issue());
  files_.ca = folder_ + "/next.pem";
  ASSERT_TRUE(WriteFileAtomically(RealEnv(), files_.ca, next.pem()).ok());
  const absl::Duration end = RealClock().SinceBoot() + absl::Seconds(30);
  while (Get(Channel(folder_ + "/admin.token"), "s").error_code() != StatusCode::NOT_FOUND) {
    ASSERT_LT(RealClock().SinceBoot(), end) << "the new certificate never came";
  }
  worker.Beat();
  EXPECT_EQ(worker.registered().epoch(), 2) << "the same coordinator";
}

TEST_F(SecurityTest, LimitsAreNamed) {
  ServerOptions options;
  options.gate.max_request_bytes = 64 << 10;
  options.gate.max_streams_per_principal = 1;
  Start(options);
  v1::CreateSweepRequest request;
  *request.mutable_spec() = sae::ToProto(MakeSpec("s", 1));
  request.set_request_id(std::string(70'000, 'x'));
  grpc::Status status =
      Call<v1::Sweep>(admin_, &v1::SweepService::Stub::CreateSweep, request).first;
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("at most 65536 are taken (--max-request-bytes)"));
  request.set_request_id(std::string(kMaxMessageBytes, 'x'));
  status = Call<v1::Sweep>(admin_, &v1::SweepService::Stub::CreateSweep, request).first;
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED) << "not even read";

  ASSERT_TRUE(Create(admin_, "s").ok());
  v1::TelemetryService::Stub stub(admin_);
  v1::WatchSweepRequest watch;
  watch.set_name("s");
  grpc::ClientContext first, second;
  SetDeadline(first);
  SetDeadline(second);
  const auto open = stub.WatchSweep(&first, watch);
  v1::SweepEvent event;
  ASSERT_TRUE(open->Read(&event));
  const auto refused = stub.WatchSweep(&second, watch);
  EXPECT_FALSE(refused->Read(&event));
  status = refused->Finish();
  EXPECT_EQ(status.error_code(), StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_THAT(status.error_message(), HasSubstr("may have 1 (--max-streams-per-principal)"));
  first.TryCancel();
}

}  // namespace
}  // namespace sae::server::testing
