// Retention over real gRPC: what people ask, what a worker is told and answers.
#include "server/testing/rpc_fixture.h"

namespace sae::server::testing {
namespace {
namespace v1 = saeloom::v1;
using config::EventKind;
using grpc::StatusCode;
using ::testing::AnyOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class CheckpointService : public RpcTest {
 protected:
  /// Three checkpoints, of which the first is the best and the last the newest.
  void Begin() {
    config::SweepSpec spec = MakeSpec("s", 1);
    spec.checkpoints = {1, 1, 0};
    spec.minimize = false;
    Create(spec);
    worker_ = std::make_unique<RpcWorker>(channel_, "w", 1);
    const v1::StartAttempt start = worker_->WaitForCommand().commands(0).start();
    EXPECT_EQ(start.keep_checkpoints(), -1);
    std::vector<std::string> lines = {Line(1, EventKind::kStarted)};
    for (int step = 1; step <= 3; ++step) {
      lines.push_back(Line(2 * step, EventKind::kEvaluation, step));
      lines.push_back(Line(2 * step + 1, EventKind::kCheckpoint, step));
    }
    ASSERT_EQ(worker_->Report("s", "0000", 1, 1, lines), 7);
  }
  v1::CollectCheckpointsResponse Collect(bool dry_run, const std::string& id = "") {
    v1::CollectCheckpointsRequest request;
    request.set_parent("projects/default/sweeps/s");
    request.set_dry_run(dry_run);
    request.set_request_id(id);
    return Good(&Trials::CollectCheckpoints, request);
  }
  v1::ProtectCheckpointRequest Protect(const std::string& name, bool on = true) {
    v1::ProtectCheckpointRequest request;
    request.set_name(name);
    request.set_protect(on);
    return request;
  }
  v1::CheckpointStatus Answer(const std::string& name, v1::CheckpointStatus::State state) {
    v1::CheckpointStatus status;
    status.set_sweep("s");
    status.set_trial("0000");
    status.set_name(name);
    status.set_attempt(1);
    status.set_state(state);
    status.set_bytes(100);
    status.set_status_id(++statuses_);
    return status;
  }
  static std::vector<std::string> Names(
      const google::protobuf::RepeatedPtrField<v1::Checkpoint>& checkpoints) {
    std::vector<std::string> out;
    for (const v1::Checkpoint& c : checkpoints) out.push_back(c.name());
    return out;
  }
  std::vector<v1::Checkpoint> List() {
    v1::ListCheckpointsRequest request;
    request.set_parent("s/0000");
    const auto response = Good(&Trials::ListCheckpoints, request);
    return {response.checkpoints().begin(), response.checkpoints().end()};
  }

  std::unique_ptr<RpcWorker> worker_;
  std::int64_t statuses_ = 1000;
};

TEST_F(CheckpointService, SaysWhatGoesTellsTheWorkerAndHearsOfIt) {
  Begin();
  const v1::CollectCheckpointsResponse plan = Collect(true);
  EXPECT_THAT(Names(plan.deleted()), ElementsAre("step-2"));
  EXPECT_THAT(Names(plan.kept()), ElementsAre("step-1", "step-3"));
  EXPECT_EQ(plan.deleted(0).bytes(),
            config::EstimateCheckpointBytes(MakeSpec("s", 1).trial, 64, 0));
  EXPECT_THAT(plan.deleted(0).reason(),
              AnyOf(HasSubstr("neither among the newest nor the best"), HasSubstr("being deleted")))
      << "the policy is looked at now and then, too";
  EXPECT_DOUBLE_EQ(plan.kept(0).value(), 1.0);
  EXPECT_THAT(Names(Collect(false, "id").deleted()), ElementsAre("step-2"));

  std::vector<std::string> told;
  const auto message = worker_->WaitForCommand();
  for (const v1::Command& c : message.commands()) {
    if (c.has_keep()) told.push_back("keep " + c.keep().name());
    if (c.has_delete_checkpoints()) told.push_back("delete " + c.delete_checkpoints().names(0));
  }
  EXPECT_THAT(told, ElementsAre("keep step-1", "delete step-2"));
  std::vector<v1::Checkpoint> list = List();
  ASSERT_EQ(list.size(), 3U);
  EXPECT_TRUE(list[0].kept());
  EXPECT_FALSE(list[0].secured());
  EXPECT_EQ(list[0].path(), "/runs/s/0000/checkpoints/step-1");
  EXPECT_EQ(list[0].reason(), "among the best of its trial; worker w is to link it below kept");
  EXPECT_TRUE(list[1].deleting());
  EXPECT_EQ(list[1].reason(), "being deleted; worker w is to delete it");
  const grpc::Status late = Bad(&Trials::ProtectCheckpoint, Protect("s/0000/step-2"));
  EXPECT_EQ(late.error_code(), StatusCode::FAILED_PRECONDITION);
  EXPECT_EQ(ParseErrorDetails(late.error_details()).reason, "CHECKPOINT_IS_BEING_DELETED");
  v1::ForkSweepRequest fork;
  fork.set_source("s/0000/step-2");
  fork.set_name("f");
  fork.set_tokens(2e5);
  EXPECT_THAT(Bad(&Sweeps::ForkSweep, fork).error_message(), HasSubstr("it has step-1, step-3"));

  const auto heard =
      worker_->Beat(nullptr, {Answer("step-1", v1::CheckpointStatus::STATE_KEPT),
                              Answer("step-2", v1::CheckpointStatus::STATE_DELETED)});
  EXPECT_THAT(heard.status_acks(), ElementsAre(1001, 1002));
  EXPECT_EQ(worker_->Beat().commands_size(), 0);
  list = List();
  ASSERT_EQ(list.size(), 2U);
  EXPECT_TRUE(list[0].secured());
  EXPECT_EQ(list[0].path(), "/runs/s/0000/kept/step-1");
  EXPECT_EQ(list[0].reason(), "among the best of its trial");
  EXPECT_EQ(list[1].reason(), "its trial goes on from it");
  EXPECT_THAT(Names(Collect(false, "id").deleted()), ElementsAre("step-2"))
      << "the same request again";
  EXPECT_THAT(Names(Collect(false).deleted()), ElementsAre());
}

TEST_F(CheckpointService, ProtectedOnesStay) {
  Begin();
  const v1::Checkpoint c =
      Good(&Trials::ProtectCheckpoint,
           Protect("projects/default/sweeps/s/trials/0000/checkpoints/step-3"));
  EXPECT_TRUE(c.protected_());
  EXPECT_EQ(c.name(), "step-3");
  EXPECT_THAT(c.reason(), HasSubstr("protected; worker w is to link it below kept"));
  EXPECT_FALSE(Good(&Trials::ProtectCheckpoint, Protect("s/0000/step-3", false)).protected_());
  EXPECT_EQ(Bad(&Trials::ProtectCheckpoint, Protect("s/0000/step-9")).error_code(),
            StatusCode::NOT_FOUND);
  EXPECT_EQ(Bad(&Trials::ProtectCheckpoint, Protect("s/0001/step-1")).error_code(),
            StatusCode::NOT_FOUND);
  EXPECT_EQ(Bad(&Trials::ProtectCheckpoint, Protect("t/0000/step-1")).error_code(),
            StatusCode::NOT_FOUND);
  for (const char* name : {"", "s/0000", "s/0000/", "s/0000/checkpoints/step-1"})
    EXPECT_EQ(Bad(&Trials::ProtectCheckpoint, Protect(name)).error_code(),
              StatusCode::INVALID_ARGUMENT)
        << name;
}

}  // namespace
}  // namespace sae::server::testing
