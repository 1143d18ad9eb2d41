// Pause, resume, stop and fork with real trainers: each goes on from the step at which it saved.
#include <functional>

#include <gtest/gtest.h>

#include "tests/e2e/service_rig.h"

namespace saeloom::e2e {
namespace {

class Lifecycle : public ::testing::Test {
 protected:
  template <class Request, class Response>
  Response Call(
      const Request& request,
      const std::function<grpc::Status(grpc::ClientContext*, const Request&, Response*)>& method) {
    grpc::ClientContext context;
    Response response;
    const grpc::Status status = method(&context, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message() << rig_.Logs();
    return response;
  }
  template <class Request>
  void Ask(grpc::Status (v1::TrialService::Stub::*method)(grpc::ClientContext*, const Request&,
                                                          v1::Trial*)) {
    Request request;
    request.set_name("demo/0000");
    Call<Request, v1::Trial>(
        request, [&](auto* c, const auto& q, auto* r) { return (rig_.trials().*method)(c, q, r); });
  }
  v1::Trial Get(const std::string& name) {
    v1::GetTrialRequest request;
    request.set_name(name);
    return Call<v1::GetTrialRequest, v1::Trial>(
        request, [&](auto* c, const auto& q, auto* r) { return rig_.trials().GetTrial(c, q, r); });
  }
  bool Becomes(const std::string& trial, v1::Trial::State state) {
    return ServiceRig::WaitUntil([&] { return Get(trial).state() == state; });
  }

  ServiceRig rig_{{}};
};

TEST_F(Lifecycle, PausedResumedStoppedAndForkedTrialsGoOnWhereTheySaved) {
  rig_.StartCoordinator();
  rig_.StartWorker("one", 2);
  rig_.Submit(1, 100'000);
  ASSERT_TRUE(rig_.WaitUntilUnderWay("0000", 50)) << rig_.Logs();
  Ask(&v1::TrialService::Stub::PauseTrial);
  ASSERT_TRUE(Becomes("demo/0000", v1::Trial::STATE_PAUSED))
      << Get("demo/0000").DebugString() << rig_.Logs();
  EXPECT_TRUE(rig_.Ranks("0000").empty());
  v1::ListCheckpointsRequest list;
  list.set_parent("demo/0000");
  const auto saved = Call<v1::ListCheckpointsRequest, v1::ListCheckpointsResponse>(
      list,
      [&](auto* c, const auto& q, auto* r) { return rig_.trials().ListCheckpoints(c, q, r); });
  ASSERT_GT(saved.checkpoints_size(), 0);
  const std::int64_t step = saved.checkpoints(saved.checkpoints_size() - 1).step();
  EXPECT_GE(step, 50);

  v1::ForkSweepRequest fork;
  fork.set_source("demo/0000");
  fork.set_name("more");
  fork.set_tokens(static_cast<double>((step + 40) * ServiceRig::kBatch));
  Call<v1::ForkSweepRequest, v1::Sweep>(
      fork, [&](auto* c, const auto& q, auto* r) { return rig_.sweeps().ForkSweep(c, q, r); });
  ASSERT_TRUE(Becomes("more/0000", v1::Trial::STATE_SUCCEEDED))
      << Get("more/0000").DebugString() << rig_.Logs();
  const v1::Trial forked = Get("more/0000");
  ASSERT_EQ(forked.attempts_size(), 1);
  EXPECT_EQ(forked.attempts(0).from_step(), step);
  EXPECT_EQ(forked.step(), step + 40);

  Ask(&v1::TrialService::Stub::ResumeTrial);
  ASSERT_TRUE(ServiceRig::WaitUntil([&] { return Get("demo/0000").step() > step; })) << rig_.Logs();
  EXPECT_EQ(Get("demo/0000").attempts(1).from_step(), step);
  Ask(&v1::TrialService::Stub::StopTrial);
  ASSERT_TRUE(Becomes("demo/0000", v1::Trial::STATE_STOPPED_EARLY)) << rig_.Logs();
  EXPECT_EQ(rig_.GetSweep().state(), v1::Sweep::STATE_SUCCEEDED);
  rig_.Terminate("one");
  rig_.Terminate("coordinator");
  EXPECT_TRUE(rig_.Processes().empty());
}

}  // namespace
}  // namespace saeloom::e2e
