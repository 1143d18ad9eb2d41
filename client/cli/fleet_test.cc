// Nouns about the service itself: workers, queues, checkpoints, tokens, audit, health, top, debug,
// version, plan against a coordinator, submit's flags.

#include <nlohmann/json.hpp>
#include <sys/stat.h>

#include "client/cli/testing/cli_fixture.h"
#include "sae/config/yaml.h"

namespace sae::cli {
namespace {
using nlohmann::json;
using saeloom::v1::Sweep;
using ::testing::HasSubstr;
using ::testing::Not;

class FleetTest : public testing::CliFixture {
 protected:
  FleetTest() {
    auto* w = service_.workers.add_workers();
    w->set_id("worker-0");
    w->set_state("ready");
    w->set_slots(2);
    w->set_free_slots(1);
    w->set_memory_bytes(1 << 30);
    auto* q = service_.queues.add_queues();
    q->set_name("default");
    q->set_used_slots(3);
  }
};

TEST_F(FleetTest, WorkersHaveEveryFormAndTwoNames) {
  ASSERT_EQ(Run({"worker", "list"}), 0) << err();
  EXPECT_EQ(out(),
            "WORKER    STATE  SLOTS  FREE  HEARD  METRICS  RUNS\n"
            "worker-0  ready      2     1      -\n");
  ASSERT_EQ(Run({"node", "list", "-o", "wide"}), 0);
  EXPECT_THAT(out(), HasSubstr("1.0 GiB"));
  ASSERT_EQ(Run({"node", "list", "-o", "name"}), 0);
  EXPECT_EQ(out(), "worker-0\n");
  ASSERT_EQ(Run({"worker", "get", "worker-0", "-o", "yaml"}), 0);
  EXPECT_EQ(json::parse(config::YamlToJson(out(), "out").value())["free_slots"], 1);
  EXPECT_EQ(Run({"worker", "get", "none"}), 3);
}

TEST_F(FleetTest, CordonDrainUncordon) {
  ASSERT_EQ(Run({"worker", "cordon", "worker-0", "--reason", "driver"}), 0) << err();
  EXPECT_EQ(out(), "worker worker-0: cordoned\n");
  EXPECT_EQ(service_.Asked("CordonWorker"),
            "id: \"worker-0\" reason: \"driver\" request_id: \"r1\"");
  ASSERT_EQ(Run({"node", "drain", "worker-0", "--wait"}), 0) << err();
  EXPECT_THAT(service_.Asked("CordonWorker"), HasSubstr("drain: true"));
  service_.workers.mutable_workers(0)->add_attempts("demo/0000/attempts/1");
  service_.ends_after["GetWorker"] = service_.Calls("GetWorker") + 2;
  EXPECT_EQ(Run({"worker", "drain", "worker-0", "--wait"}), 5) << "an attempt is still there";
  ASSERT_EQ(Run({"worker", "uncordon", "worker-0", "-o", "json"}), 0);
  EXPECT_EQ(json::parse(out())["state"], "ready");
  EXPECT_EQ(Run({"worker", "cordon", "worker-0", "--wait"}), 2);
}

TEST_F(FleetTest, QueuesAreListedAndSet) {
  ASSERT_EQ(Run({"queue", "list"}), 0) << err();
  EXPECT_EQ(out(),
            "QUEUE    QUOTA  WEIGHT  USED  PENDING\n"
            "default   none   1.000     3        0\n");
  ASSERT_EQ(Run({"queue", "set", "research", "--quota", "16", "--weight", "2"}), 0);
  EXPECT_EQ(out(), "queue research: quota 16 slots, weight 2.000\n");
  ASSERT_EQ(Run({"queue", "set", "research", "--quota", "0", "-o", "name"}), 0);
  EXPECT_EQ(out(), "research\n");
  EXPECT_THAT(service_.Asked("UpdateQueue"), HasSubstr("update_mask { paths: \"quota_slots\" }"));
  EXPECT_EQ(Run({"queue", "set", "research"}), 2);
  EXPECT_EQ(Run({"queue", "set", "research", "--weight", "0"}), 2);
}

TEST_F(FleetTest, Checkpoints) {
  auto& c = service_.checkpoints.emplace_back();
  c.set_resource(TrialName("demo", "0000") + "/checkpoints/step-000000000244");
  c.set_step(244);
  c.set_tokens(499712);
  c.set_protected_(true);
  c.set_reason("protected");
  c.set_bytes(std::int64_t{3} << 20);
  ASSERT_EQ(Run({"checkpoint", "list", "demo/0000"}), 0) << err();
  EXPECT_EQ(out(),
            "CHECKPOINT                   STEP  TOKENS  VALUE  AGE  PROTECTED  KEPT  REASON\n"
            "demo/0000/step-000000000244   244    500k      -    -  yes        -     protected\n");
  ASSERT_EQ(Run({"checkpoint", "list", "demo", "-o", "name"}), 0);
  EXPECT_EQ(service_.Calls("ListCheckpoints"), 3) << "one trial, then both";
  const std::string name = "demo/0000/step-000000000244";
  ASSERT_EQ(Run({"checkpoint", "protect", name}), 0);
  EXPECT_EQ(out(), "checkpoint " + name + ": protected\n");
  ASSERT_EQ(Run({"checkpoint", "unprotect", name}), 0);
  EXPECT_THAT(service_.Asked("ProtectCheckpoint"), Not(HasSubstr("protect: true")));
  EXPECT_EQ(Run({"checkpoint", "protect", "demo/0000"}), 2);
  *service_.collected.add_deleted() = c;
  service_.collected.add_kept();
  ASSERT_EQ(Run({"checkpoint", "gc", "demo", "--dry-run"}), 0);
  EXPECT_THAT(out(), HasSubstr("would delete 1 (3.0 MiB), keeps 1\n"));
  EXPECT_THAT(service_.Asked("CollectCheckpoints"), HasSubstr("dry_run: true"));
  ASSERT_EQ(Run({"checkpoint", "gc", "demo", "-o", "name"}), 0);
  EXPECT_EQ(out(), name + "\n");
}

TEST_F(FleetTest, ATokensSecretGoesToOutputOrToAPrivateFileAlone) {
  service_.token.mutable_token()->set_id("01J9");
  service_.token.mutable_token()->set_role("viewer");
  service_.token.set_secret("slm_01J9_secret");
  ASSERT_EQ(Run({"token", "create", "ci", "--role", "viewer", "--ttl", "720h"}), 0) << err();
  EXPECT_EQ(out(), "slm_01J9_secret\n");
  EXPECT_THAT(err(), Not(HasSubstr("slm_01J9_secret")));
  EXPECT_THAT(service_.Asked("CreateToken"), HasSubstr("ttl_seconds: 2592000"));
  ASSERT_EQ(Run({"token", "create", "ci", "--out", "ci.token"}), 0);
  EXPECT_EQ(out(), "token 01J9 of ci is in ci.token\n");
  EXPECT_EQ(RealEnv().Read(t_.directory + "/ci.token").value(), "slm_01J9_secret\n");
  struct stat st {};
  ASSERT_EQ(::stat((t_.directory + "/ci.token").c_str(), &st), 0);
  EXPECT_EQ(st.st_mode & 0777, 0600U);
  EXPECT_EQ(Run({"token", "create", "ci", "--ttl", "soon"}), 2);
  EXPECT_EQ(Run({"token", "create", "ci", "--role", "root"}), 2);

  auto* t = service_.tokens.add_tokens();
  t->set_id("01J9");
  t->set_principal("ci");
  t->set_role("viewer");
  t->mutable_expire_time()->set_seconds(1'700'000'000 + 3600);
  ASSERT_EQ(Run({"token", "list"}), 0);
  EXPECT_EQ(out(),
            "TOKEN  PRINCIPAL  ROLE    AGE   LEFT   USED  NOTE\n"
            "01J9   ci         viewer    -  1h00m  never\n");
  ASSERT_EQ(Run({"token", "list", "-o", "json"}), 0);
  EXPECT_EQ(json::parse(out())[0]["expire_time"], "2023-11-14T23:13:20Z");
  ASSERT_EQ(Run({"token", "revoke", "01J9"}), 0);
  EXPECT_EQ(out(), "token 01J9 of ann: revoked\n");
}

TEST_F(FleetTest, WhoAmIAndAudit) {
  service_.me.set_principal("ann");
  service_.me.set_role("operator");
  service_.me.set_method("token");
  ASSERT_EQ(Run({"whoami"}), 0) << err();
  EXPECT_EQ(out(), "ann, operator (by token) at " + service_.address() + "\n");
  ASSERT_EQ(Run({"whoami", "-o", "name"}), 0);
  EXPECT_EQ(out(), "ann\n");
  for (int i = 1; i <= 3; ++i) {
    auto& e = service_.audit.emplace_back();
    e.set_id(i);
    e.set_principal("ann");
    e.set_role("operator");
    e.set_method("CancelSweep");
    e.set_resource(SweepName("demo"));
    e.set_code("OK");
  }
  ASSERT_EQ(Run({"audit", "list", "-o", "name"}), 0);
  EXPECT_EQ(out(), "1\n2\n3\n");
  ASSERT_EQ(Run({"audit", "list", "--limit", "2", "--method", "CancelSweep"}), 0);
  EXPECT_EQ(out(),
            "ID  AGE  PRINCIPAL  ROLE      METHOD       RESOURCE  CODE\n"
            " 1    -  ann        operator  CancelSweep  demo      OK\n"
            " 2    -  ann        operator  CancelSweep  demo      OK\n");
  service_.audit[2].set_principal("bob");
  ASSERT_EQ(Run({"audit", "list", "--principal", "bob", "-o", "name"}), 0);
  EXPECT_EQ(out(), "3\n") << "the first page is empty";
  ASSERT_EQ(Run({"audit", "list", "--after", "2", "-o", "name"}), 0);
  EXPECT_EQ(out(), "3\n");
}

TEST_F(FleetTest, HealthTellsByItsExitCode) {
  ASSERT_EQ(Run({"health"}), 0) << err();
  EXPECT_EQ(out(), "SERVING at " + service_.address() + "\n");
  service_.SetServing(false);
  EXPECT_EQ(Run({"health", "-o", "json"}), 6);
  EXPECT_EQ(json::parse(out())["state"], "NOT_SERVING");
  t_.variables["SAELOOM_ADDR"] = "127.0.0.1:1";
  EXPECT_EQ(Run({"health"}), 6);
}

TEST_F(FleetTest, TopIsOneScreen) {
  ASSERT_EQ(Run({"top"}), 0) << err();
  for (const char* part : {"1 sweeps under way  1/2 slots in use  1 workers", "SWEEP  STATE",
                           "QUEUE    QUOTA", "WORKER    STATE"})
    EXPECT_THAT(out(), HasSubstr(part));
  ASSERT_EQ(Run({"top", "-o", "json"}), 0);
  EXPECT_EQ(json::parse(out())["queues"][0]["used_slots"], 3);
  service_.failure = grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "not here");
  service_.failures["ListQueues"] = 1;
  ASSERT_EQ(Run({"top", "--once"}), 0);
  EXPECT_THAT(out(), HasSubstr("queues: this coordinator does not tell of them (UNIMPLEMENTED)"));
  service_.failures["ListQueues"] = 1;
  EXPECT_EQ(Run({"queue", "list"}), 1);
  EXPECT_THAT(err(), HasSubstr("error: not here\nhint: this coordinator does not have it"));
}

TEST_F(FleetTest, TheBundleHoldsWhatIsThereAndSaysWhatIsNot) {
  service_.debug_json = R"({"version": "0.1.0", "epoch": 3})";
  t_.Write("ann.token", "slm_secret\n");
  ASSERT_EQ(Run({"debug", "bundle", "--out", "b", "--token-file", t_.directory + "/ann.token"}), 0)
      << err();
  EXPECT_EQ(json::parse(RealEnv().Read(t_.directory + "/b/coordinator.json").value())["epoch"], 3);
  for (const char* file : {"client.json", "sweeps.json", "workers.json", "queues.json"}) {
    const std::string text = RealEnv().Read(t_.directory + "/b/" + file).value();
    EXPECT_TRUE(json::accept(text)) << file;
    EXPECT_THAT(text, Not(HasSubstr("slm_secret"))) << file;
  }
  EXPECT_EQ(RealEnv().Read(t_.directory + "/b/health.txt").value(), "SERVING\n");
  service_.failure = grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "not here");
  service_.failures["ListQueues"] = 1;
  ASSERT_EQ(Run({"debug", "bundle", "--out", "b.tar", "-o", "json"}), 0);
  EXPECT_EQ(json::parse(out())["bundle"], "b.tar");
  EXPECT_THAT(RealEnv().Read(t_.directory + "/b.tar").value(),
              HasSubstr("queues.json: UNIMPLEMENTED: not here"));
  ASSERT_EQ(Run({"version", "--coordinator", "-o", "json"}), 0);
  EXPECT_EQ(json::parse(out())["coordinator"]["version"], "0.1.0");
}

TEST_F(FleetTest, PlanAsksTheCoordinatorWhenOneIsNamed) {
  service_.plan.set_wait("needs 2 slots; all workers have 1");
  service_.plan.add_duplicates("old/0003");
  service_.plan.add_rungs(4000);
  ASSERT_EQ(Run({"plan", "s.yaml"}), 0) << err();
  EXPECT_EQ(service_.Calls("PreviewSweep"), 0);
  ASSERT_EQ(Run({"plan", "s.yaml", "--server", service_.address()}), 0) << err();
  for (const char* part : {"the name is taken by another sweep", "would wait: needs 2 slots",
                           "rungs at 4.00k tokens", "same configuration as old/0003"})
    EXPECT_THAT(out(), HasSubstr(part));
  service_.sweep.set_name(SweepName("else"));
  ASSERT_EQ(Run({"plan", "s.yaml", "--exit-code", "-o", "json"}), 1) << err();
  EXPECT_EQ(json::parse(out())["coordinator"]["exists"], false);
  // The very sweep that submit would send.
  ASSERT_EQ(Run({"submit", "s.yaml"}), 0);
  *service_.sweep.mutable_spec() = service_.created.spec();
  service_.sweep.mutable_spec()->set_priority(9);  // by `sweep set`: the same sweep all the same
  service_.sweep.set_name(SweepName("demo"));
  ASSERT_EQ(Run({"plan", "s.yaml", "--exit-code"}), 0) << err();
  EXPECT_THAT(out(), HasSubstr("no change, this very sweep is there"));
  EXPECT_EQ(Run({"plan", "none.yaml", "--exit-code"}), 255);
  EXPECT_EQ(Run({"plan", "none.yaml"}), 3);
  service_.failure = grpc::Status(grpc::StatusCode::UNIMPLEMENTED, "not here");
  service_.failures["PreviewSweep"] = 1;
  ASSERT_EQ(Run({"plan", "s.yaml", "--server", service_.address()}), 0);
  EXPECT_THAT(out(), HasSubstr("does not preview sweeps (UNIMPLEMENTED)"));
}

TEST_F(FleetTest, SubmitTakesLabelsQueueAndPriority) {
  ASSERT_EQ(Run({"submit", "s.yaml", "--label", "model=gpt2", "--label", "layer=12", "--queue",
                 "research", "--priority", "50", "-o", "name"}),
            0)
      << err();
  EXPECT_EQ(out(), "demo\n");
  const auto& spec = service_.created.spec();
  EXPECT_EQ(spec.labels().at("model"), "gpt2");
  EXPECT_EQ(spec.labels().at("layer"), "12");
  EXPECT_EQ(spec.queue(), "research");
  EXPECT_EQ(spec.priority(), 50);
  EXPECT_EQ(service_.created.request_id(), "r1");
  EXPECT_EQ(Run({"submit", "s.yaml", "--label", "model"}), 2);
  EXPECT_THAT(err(), HasSubstr("--label: 'model' is not KEY=VALUE"));
  ASSERT_EQ(Run({"submit", "s.yaml", "--quiet"}), 0);
  EXPECT_EQ(out(), "");
}

}  // namespace
}  // namespace sae::cli
