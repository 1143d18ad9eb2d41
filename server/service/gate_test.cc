#include "server/service/gate.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/auth/token.h"
#include "server/testing/core_fixture.h"

namespace sae::server::testing {
namespace {
using ::testing::HasSubstr;
using ::testing::Not;

class GateTest : public CoreTest {
 protected:
  GateTest() { Make({}); }
  void Make(GateOptions options, bool tls = true) {
    options.tls = tls;
    gate_ = std::make_unique<Gate>(options, clock_);
    gate_->tokens().Load(store_->Tokens().value());
  }
  /// A token of `principal`; its text.
  std::string Token(const std::string& principal, Role role) {
    const NewToken made = MakeToken(MachineEntropy).value();
    TokenRecord record;
    record.id = made.id;
    record.secret_hash = made.hash;
    record.principal = principal;
    record.role = ToString(role);
    record.created = clock_.Now();
    record.expires = clock_.Now() + absl::Hours(1);
    EXPECT_TRUE(core_->StoreTokens({record}, {}).ok());
    gate_->tokens().Put(record);
    ids_[made.text] = made.id;
    return made.text;
  }
  static CallFacts Call(const std::string& method, const std::string& bearer,
                        const std::string& resource = "") {
    CallFacts facts;
    facts.service = "saeloom.v1.SweepService";
    facts.method = method;
    facts.peer = "ipv4:127.0.0.1:5";
    facts.bearer = bearer;
    facts.resource = resource;
    facts.request_id = "r-1";
    return facts;
  }
  /// Through the gate to the core, where `handle` answers.
  absl::Status Run(CallFacts facts, const std::function<absl::Status()>& handle) {
    SAE_ASSIGN_OR_RETURN(const auto call, gate_->Admit(std::move(facts)));
    return gate_->Run(*core_, *call, handle);
  }
  std::vector<AuditRecord> Audit() {
    gate_->Poll(*store_);
    return store_->ReadAudit(0, 1000).value();
  }
  std::unique_ptr<Gate> gate_;
  std::map<std::string, std::string> ids_;
};

absl::Status Ok() { return absl::OkStatus(); }

TEST_F(GateTest, WithoutTlsEverybodyIsAnonymousAndMayAll) {
  Make({}, false);
  CallFacts facts = Call("Register", "");
  facts.service = "saeloom.v1.WorkerService";
  EXPECT_TRUE(gate_->Admit(facts).ok());
  const auto call = gate_->Admit(Call("CreateSweep", ""));
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ((*call)->caller.name, "anonymous");
  EXPECT_TRUE(gate_->CheckWorker(**call, "any").ok());
}

TEST_F(GateTest, NobodyIsToldHowToBecomeSomebody) {
  const absl::Status status = gate_->Admit(Call("GetSweep", "")).status();
  EXPECT_TRUE(absl::IsUnauthenticated(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("--token-file"));
  EXPECT_THAT(Message(status), HasSubstr("spiffe://TRUST/worker/NAME"));
  EXPECT_TRUE(absl::IsUnauthenticated(gate_->Admit(Call("GetSweep", "nonsense")).status()));
}

TEST_F(GateTest, AMethodThatNoTableKnowsIsForNobody) {
  const std::string admin = Token("root", Role::kAdmin);
  EXPECT_TRUE(absl::IsPermissionDenied(gate_->Admit(Call("DropAll", admin)).status()));
}

TEST_F(GateTest, ARecordIsInTheTransactionOfItsCall) {
  const std::string ann = Token("ann", Role::kSubmitter);
  ASSERT_TRUE(Run(Call("CreateSweep", ann, "s"), [&] {
                auto prepared = PrepareSweep(MakeSpec("s", 1), 1000).value();
                prepared.event.owner = "ann";
                return core_->CreateSweep(prepared, "r-1");
              }).ok());
  const auto audit = store_->ReadAudit(0, 10).value();  // nothing was polled
  ASSERT_EQ(audit.size(), 1U);
  EXPECT_EQ(audit[0].principal, "ann");
  EXPECT_EQ(audit[0].role, "submitter");
  EXPECT_EQ(audit[0].method, "CreateSweep");
  EXPECT_EQ(audit[0].resource, "s");
  EXPECT_EQ(audit[0].request_id, "r-1");
  EXPECT_EQ(audit[0].code, "OK");
  EXPECT_EQ(audit[0].peer, "ipv4:127.0.0.1:5");
  EXPECT_EQ(audit[0].time, clock_.Now());
  EXPECT_EQ(Audit().size(), 1U) << "not twice";
}

TEST_F(GateTest, ACallThatChangedNothingHasARecordOfItsOwn) {
  const std::string ann = Token("ann", Role::kSubmitter);
  EXPECT_FALSE(
      Run(Call("CreateSweep", ann, "s"), [] { return absl::InvalidArgumentError("no"); }).ok());
  EXPECT_TRUE(Run(Call("CreateSweep", ann, "s"), Ok).ok());
  const auto audit = Audit();
  ASSERT_EQ(audit.size(), 2U);
  EXPECT_EQ(audit[0].code, "INVALID_ARGUMENT");
  EXPECT_EQ(audit[1].code, "OK");
}

TEST_F(GateTest, WhatOnlyLooksIsNotWrittenDown) {
  const std::string ann = Token("ann", Role::kSubmitter);
  EXPECT_TRUE(Run(Call("GetSweep", ann, "s"), Ok).ok());
  CallFacts dry = Call("CreateSweep", ann, "s");
  dry.dry_run = true;
  EXPECT_TRUE(Run(dry, Ok).ok());
  EXPECT_TRUE(Audit().empty());
}

TEST_F(GateTest, RefusalsAreWrittenDownWithoutTheSecret) {
  const std::string viewer = Token("eve", Role::kViewer);
  EXPECT_FALSE(gate_->Admit(Call("CreateSweep", viewer, std::string(5000, 'x'))).ok());
  EXPECT_FALSE(gate_->Admit(Call("CreateSweep", "saeloom_wrong")).ok());
  const auto audit = Audit();
  ASSERT_EQ(audit.size(), 2U);
  EXPECT_EQ(audit[0].principal, "eve");
  EXPECT_EQ(audit[0].code, "PERMISSION_DENIED");
  EXPECT_LE(audit[0].resource.size(), 256U);
  EXPECT_EQ(audit[1].principal, "");
  EXPECT_EQ(audit[1].code, "UNAUTHENTICATED");
  for (const AuditRecord& r : audit) {
    for (const std::string& text : {r.principal, r.method, r.resource, r.request_id, r.peer})
      EXPECT_THAT(text, Not(HasSubstr("saeloom_")));
  }
}

TEST_F(GateTest, AStormOfRefusalsDoesNotFillTheStore) {
  for (int i = 0; i < 10'000; ++i) EXPECT_FALSE(gate_->Admit(Call("CreateSweep", "")).ok());
  EXPECT_EQ(Audit().size(), 100U);
  clock_.Advance(absl::Seconds(1));
  const auto audit = Audit();
  ASSERT_EQ(audit.size(), 101U);
  EXPECT_THAT(audit.back().resource, HasSubstr("9900 more refused calls"));
}

TEST_F(GateTest, AllRefusalsAreCountedAlsoThoseThatAreNotRecorded) {
  class Counter final : public RpcObserver {
   public:
    void OnAudited(const std::string& method, absl::StatusCode code) override {
      ++counts[absl::StrCat(method, " ", absl::StatusCodeToString(code))];
    }
    std::map<std::string, int> counts;
  } counter;
  GateOptions options;
  options.tls = true;
  gate_ = std::make_unique<Gate>(options, clock_, &counter);
  for (int i = 0; i < 500; ++i) EXPECT_FALSE(gate_->Admit(Call("GetSweep", "")).ok());
  const std::string ann = Token("ann", Role::kSubmitter);
  EXPECT_TRUE(Run(Call("CreateSweep", ann, "s"), Ok).ok());
  EXPECT_TRUE(Run(Call("GetSweep", ann, "s"), Ok).ok());
  EXPECT_EQ(counter.counts,
            (std::map<std::string, int>{{"GetSweep UNAUTHENTICATED", 500}, {"CreateSweep OK", 1}}));
}

TEST_F(GateTest, TheSweepOfAnotherIsNotTouched) {
  auto prepared = PrepareSweep(MakeSpec("s", 1), 1000).value();
  prepared.event.owner = "ann";
  ASSERT_TRUE(core_->CreateSweep(prepared, "").ok());
  bool asked = false;
  const auto handle = [&asked] {
    asked = true;
    return absl::OkStatus();
  };
  const std::string bob = Token("bob", Role::kSubmitter);
  const absl::Status status = Run(Call("CancelSweep", bob, "projects/default/sweeps/s"), handle);
  EXPECT_TRUE(absl::IsPermissionDenied(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("belongs to ann"));
  EXPECT_FALSE(asked);
  EXPECT_EQ(Audit().at(0).code, "PERMISSION_DENIED");
  EXPECT_TRUE(Run(Call("CancelSweep", Token("ann", Role::kSubmitter), "s"), handle).ok());
  EXPECT_TRUE(Run(Call("CancelSweep", Token("op", Role::kOperator), "s"), handle).ok());
  EXPECT_TRUE(Run(Call("CancelSweep", bob, "nothing"), handle).ok())
      << "the handler says NOT_FOUND";
}

TEST_F(GateTest, ARequestThatIsTooLargeNamesTheLimit) {
  GateOptions options;
  options.max_request_bytes = 1000;
  Make(options);
  CallFacts facts = Call("CreateSweep", Token("ann", Role::kSubmitter));
  facts.bytes = 1000;
  EXPECT_TRUE(gate_->Admit(facts).ok());
  facts.bytes = 1001;
  const absl::Status status = gate_->Admit(facts).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status)) << status;
  EXPECT_THAT(Message(status),
              HasSubstr("1001 bytes, at most 1000 are taken (--max-request-bytes)"));
}

TEST_F(GateTest, AWorkerSpeaksForItselfAlone) {
  CallFacts facts = Call("Register", "");
  facts.service = "saeloom.v1.WorkerService";
  facts.worker = "gpu-1";
  const auto call = gate_->Admit(facts);
  ASSERT_TRUE(call.ok()) << call.status();
  EXPECT_EQ((*call)->caller.name, "worker/gpu-1");
  EXPECT_TRUE(gate_->CheckWorker(**call, "gpu-1-7k2m9x").ok());
  const absl::Status other = gate_->CheckWorker(**call, "gpu-2-7k2m9x");
  EXPECT_TRUE(absl::IsPermissionDenied(other)) << other;
  EXPECT_THAT(Message(other), HasSubstr("--name gpu-1"));
  EXPECT_EQ(Audit().at(0).principal, "worker/gpu-1");
  facts.service = "saeloom.v1.SweepService";
  facts.method = "GetSweep";
  EXPECT_TRUE(absl::IsPermissionDenied(gate_->Admit(facts).status()));
}

TEST_F(GateTest, TheUseOfATokenIsStoredNowAndThen) {
  const std::string ann = Token("ann", Role::kSubmitter);
  clock_.Advance(absl::Minutes(5));
  gate_->Poll(*store_);
  const absl::Time used = clock_.Now();
  EXPECT_TRUE(gate_->Admit(Call("GetSweep", ann)).ok());
  gate_->Poll(*store_);
  EXPECT_EQ(store_->Tokens()->at(0).last_used, absl::InfinitePast()) << "not at every call";
  clock_.Advance(absl::Minutes(1));
  gate_->Poll(*store_);
  EXPECT_EQ(store_->Tokens()->at(0).last_used, used);
}

TEST_F(GateTest, StreamsAreCountedAndEndWithTheirToken) {
  GateOptions options;
  options.max_streams_per_principal = 2;
  Make(options);
  const std::string ann = Token("ann", Role::kViewer), bob = Token("bob", Role::kViewer);
  const auto open = [&](const std::string& token, absl::Status& ended) {
    const Principal caller = (*gate_->Admit(Call("GetSweep", token)))->caller;
    return gate_->streams().Open(caller, [&ended](const absl::Status& s) { ended = s; });
  };
  absl::Status first, second, third, other;
  auto a = open(ann, first);
  auto b = open(ann, second);
  ASSERT_TRUE(a.ok() && b.ok());
  const auto c = open(ann, third);
  EXPECT_TRUE(absl::IsResourceExhausted(c.status())) << c.status();
  EXPECT_THAT(Message(c.status()), HasSubstr("may have 2 (--max-streams-per-principal)"));
  const auto d = open(bob, other);
  EXPECT_TRUE(d.ok()) << "another's are not counted";
  *a = nullptr;
  EXPECT_EQ(gate_->streams().size(), 2);
  a = open(ann, first);
  EXPECT_TRUE(a.ok()) << "one was closed";

  TokenRecord record = gate_->tokens().All().at(0);
  for (const TokenRecord& r : gate_->tokens().All()) record = r.id == ids_[ann] ? r : record;
  record.revoked = true;
  gate_->tokens().Put(record);
  clock_.Advance(absl::Seconds(1));
  gate_->Poll(*store_);
  EXPECT_TRUE(absl::IsUnauthenticated(first)) << first;
  EXPECT_TRUE(absl::IsUnauthenticated(second));
  EXPECT_TRUE(other.ok());
  clock_.Advance(absl::Hours(1));
  gate_->Poll(*store_);
  EXPECT_THAT(Message(other), HasSubstr("has expired"));
}

TEST_F(GateTest, RefusalsWaitUntilTheDiskHasSpace) {
  struct FullStore final : MemoryStore {
    absl::Status Commit(const Transaction& transaction) override {
      ++tries;
      return full ? absl::ResourceExhaustedError("full") : MemoryStore::Commit(transaction);
    }
    using MemoryStore::MemoryStore;
    bool full = true;
    int tries = 0;
  } store(std::make_shared<MemoryStore::Disk>());
  EXPECT_TRUE(absl::IsUnauthenticated(gate_->Admit(Call("GetSweep", "")).status()));
  for (int i = 0; i < 5; ++i) gate_->Poll(store);
  EXPECT_EQ(store.tries, 1) << "not at every turn";
  EXPECT_TRUE(store.ReadAudit(0, 10)->empty());
  store.full = false;
  clock_.Advance(absl::Seconds(1));
  gate_->Poll(store);
  ASSERT_EQ(store.ReadAudit(0, 10)->size(), 1U);
  EXPECT_EQ(store.ReadAudit(0, 10)->at(0).code, "UNAUTHENTICATED");
}

}  // namespace
}  // namespace sae::server::testing
