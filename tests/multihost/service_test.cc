// The whole service over several hosts: the coordinator plans the gangs, prepares and starts them,
// and goes on with trials whose hosts fail.

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>
#include <numeric>

#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "tests/multihost/gang_world.h"

namespace saeloom::multihost {
namespace {

constexpr int kSteps = 600;

class ServiceTest : public GangWorld {
 protected:
  void StartService(int hosts, const std::string& lease) {
    lease_ = lease;
    MakeHosts(hosts);
    ASSERT_NO_FATAL_FAILURE(StartCoordinator());
    for (int host = 1; host <= hosts; ++host) StartWorker(host);
  }
  std::string CoordinatorOf(int) override { return address_; }

  void StartCoordinator() {
    const std::string ports = folder_ / "ports.json";
    sae::RealEnv().RemoveAll(ports).IgnoreError();
    const auto binary =
        sae::FindSibling("", "--build-folder", "saeloom-coordinator", sae::ExecutableDirectory());
    ASSERT_TRUE(binary.ok()) << binary.status();
    sae::ProcessSpec spec;
    spec.argv = {*binary,
                 "--data",
                 folder_ / "data",
                 "--listen",
                 address_.empty() ? absl::StrCat(kOwnAddress, ":0") : address_,
                 "--insecure-bind-anywhere",
                 "--port-file",
                 ports,
                 "--heartbeat",
                 "250ms",
                 "--lease",
                 lease_,
                 "--retry-delay",
                 "100ms"};
    spec.output = spec.errors = folder_ / "h0.log";
    auto process = sae::Process::Spawn(spec);
    ASSERT_TRUE(process.ok()) << process.status();
    coordinator_ = *std::move(process);
    ASSERT_TRUE(Eventually([&] { return sae::RealEnv().Exists(ports); })) << Logs();
    address_ = nlohmann::json::parse(*sae::RealEnv().Read(ports)).at("listen");
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    const auto channel =
        grpc::CreateCustomChannel(address_, grpc::InsecureChannelCredentials(), arguments);
    sweeps_ = v1::SweepService::NewStub(channel);
    trials_ = v1::TrialService::NewStub(channel);
    telemetry_ = v1::TelemetryService::NewStub(channel);
  }

  /// One trial of two ranks, which no single worker has the slots for.
  void Submit() {
    v1::CreateSweepRequest request;
    request.set_parent("projects/default");
    request.set_request_id("once");
    v1::SweepSpec& spec = *request.mutable_spec();
    spec.set_name("demo");
    spec.set_store(folder_ / "store");
    spec.set_store_hash(store_hash_);
    spec.set_store_d(32);
    v1::TrialSpec& trial = *spec.mutable_trial();
    trial.set_ranks(2);
    trial.mutable_sae()->set_architecture("topk");
    trial.mutable_sae()->set_latents(256);
    trial.mutable_train()->set_batch(128);
    trial.mutable_train()->set_tokens(128.0 * kSteps);
    trial.mutable_train()->set_log_every_steps(1);
    trial.mutable_train()->set_checkpoint_every_seconds(0.3);
    auto& k = *spec.add_parameters()->add_parameters();
    k.set_path("sae.k");
    k.mutable_values()->add_values()->set_number_value(4);
    spec.mutable_objective()->set_metric("heldout.fvu");
    spec.mutable_objective()->set_goal(v1::Objective::GOAL_MINIMIZE);
    spec.mutable_search()->mutable_grid();
    spec.set_pack(1);
    v1::Sweep sweep;
    grpc::ClientContext context;
    const grpc::Status status = sweeps_->CreateSweep(&context, request, &sweep);
    ASSERT_TRUE(status.ok()) << status.error_message();
  }

  v1::Trial Trial() {
    v1::GetTrialRequest request;
    request.set_name("projects/default/sweeps/demo/trials/0000");
    v1::Trial trial;
    grpc::ClientContext context;
    context.set_wait_for_ready(true);
    context.set_deadline(absl::ToChronoTime(sae::RealClock().Now() + absl::Seconds(10)));
    (void)trials_->GetTrial(&context, request, &trial);
    return trial;
  }
  void WaitUntilItRuns() {
    ASSERT_TRUE(Eventually([&] {
      const v1::Trial trial = Trial();
      return trial.state() == v1::Trial::STATE_RUNNING && trial.step() > 20 &&
             !trial.checkpoint().empty();
    })) << Trial().DebugString()
        << Logs();
  }
  /// Number of the host that is first (0) or second (1) of the gang.
  int HostOf(int place) {
    const v1::Trial trial = Trial();
    EXPECT_EQ(trial.attempts(0).hosts_size(), 2) << trial.DebugString();
    return trial.attempts(0).hosts(place)[1] - '0';  // "h2-abcdef"
  }
  void ExpectSucceeded(int attempts) {
    ASSERT_TRUE(Eventually([&] {
      const auto state = Trial().state();
      return state == v1::Trial::STATE_SUCCEEDED || state == v1::Trial::STATE_FAILED;
    })) << Trial().DebugString()
        << Logs();
    const v1::Trial trial = Trial();
    EXPECT_EQ(trial.state(), v1::Trial::STATE_SUCCEEDED) << trial.DebugString() << Logs();
    EXPECT_EQ(trial.attempts_size(), attempts) << trial.DebugString();
    v1::QueryMetricsRequest request;
    request.set_trial(trial.name());
    request.add_metrics("train.loss");
    v1::QueryMetricsResponse response;
    grpc::ClientContext context;
    ASSERT_TRUE(telemetry_->QueryMetrics(&context, request, &response).ok());
    ASSERT_EQ(response.series_size(), 1);
    std::vector<std::int64_t> every(kSteps);
    std::iota(every.begin(), every.end(), 1);
    EXPECT_EQ(std::vector<std::int64_t>(response.series(0).steps().begin(),
                                        response.series(0).steps().end()),
              every)
        << "each step once";
  }

  std::string lease_, address_;
  std::unique_ptr<sae::Process> coordinator_;
  std::unique_ptr<v1::SweepService::Stub> sweeps_;
  std::unique_ptr<v1::TrialService::Stub> trials_;
  std::unique_ptr<v1::TelemetryService::Stub> telemetry_;
};

TEST_F(ServiceTest, ADeadDaemonCostsAnAttempt) {
  ASSERT_NO_FATAL_FAILURE(StartService(2, "60s"));
  ASSERT_NO_FATAL_FAILURE(Submit());
  ASSERT_NO_FATAL_FAILURE(WaitUntilItRuns());
  ASSERT_NO_FATAL_FAILURE(hosts_->Kill(HostOf(1), "orted"));
  ExpectSucceeded(2);
  EXPECT_TRUE(Eventually([&] { return NothingRunsOn(1) && NothingRunsOn(2); }));
}

TEST_F(ServiceTest, TheCoordinatorAndTheHeadsWorkerComeBackAndTheAttemptGoesOn) {
  ASSERT_NO_FATAL_FAILURE(StartService(2, "60s"));
  ASSERT_NO_FATAL_FAILURE(Submit());
  ASSERT_NO_FATAL_FAILURE(WaitUntilItRuns());
  const int head = HostOf(0);
  ASSERT_TRUE(coordinator_->Signal(SIGKILL).ok());
  ASSERT_TRUE(coordinator_->Wait(absl::Seconds(30)).ok());
  ASSERT_NO_FATAL_FAILURE(hosts_->Kill(head, "saeloom-worker"));
  ASSERT_NO_FATAL_FAILURE(StartCoordinator());
  StartWorker(head);
  ExpectSucceeded(1);
}

TEST_F(ServiceTest, WithoutTheHeadsHostTheOthersGoOn) {
  ASSERT_NO_FATAL_FAILURE(StartService(3, "3s"));
  ASSERT_NO_FATAL_FAILURE(Submit());
  ASSERT_NO_FATAL_FAILURE(WaitUntilItRuns());
  const int head = HostOf(0);
  ASSERT_NO_FATAL_FAILURE(hosts_->PowerOff(head));
  ExpectSucceeded(2);
  EXPECT_EQ(Trial().attempts(1).hosts_size(), 2);
}

}  // namespace
}  // namespace saeloom::multihost
