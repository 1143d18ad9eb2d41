#include "tests/multihost/service_world.h"

#include <nlohmann/json.hpp>
#include <numeric>

#include <grpcpp/create_channel.h>

#include "sae/base/clock.h"
#include "sae/base/env.h"

namespace saeloom::multihost {

std::shared_ptr<grpc::ChannelCredentials> ServiceWorld::Credentials() {
  return grpc::InsecureChannelCredentials();
}

void ServiceWorld::StartService(int hosts, const std::string& lease) {
  lease_ = lease;
  MakeHosts(hosts);
  ASSERT_NO_FATAL_FAILURE(StartCoordinator());
  for (int host = 1; host <= hosts; ++host) StartWorker(host);
}

void ServiceWorld::StartCoordinator() {
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
               "--port-file",
               ports,
               "--heartbeat",
               "250ms",
               "--lease",
               lease_,
               "--retry-delay",
               "100ms"};
  for (const std::string& word : CoordinatorSecurity()) spec.argv.push_back(word);
  spec.output = spec.errors = folder_ / "h0.log";
  auto process = sae::Process::Spawn(spec);
  ASSERT_TRUE(process.ok()) << process.status();
  coordinator_ = *std::move(process);
  ASSERT_TRUE(Eventually([&] { return sae::RealEnv().Exists(ports); })) << Logs();
  address_ = nlohmann::json::parse(*sae::RealEnv().Read(ports)).at("listen");
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
  const auto channel = grpc::CreateCustomChannel(address_, Credentials(), arguments);
  sweeps_ = v1::SweepService::NewStub(channel);
  trials_ = v1::TrialService::NewStub(channel);
  telemetry_ = v1::TelemetryService::NewStub(channel);
}

void ServiceWorld::Submit() {
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

v1::Trial ServiceWorld::Trial() {
  v1::GetTrialRequest request;
  request.set_name("projects/default/sweeps/demo/trials/0000");
  v1::Trial trial;
  grpc::ClientContext context;
  context.set_wait_for_ready(true);
  context.set_deadline(absl::ToChronoTime(sae::RealClock().Now() + absl::Seconds(10)));
  (void)trials_->GetTrial(&context, request, &trial);
  return trial;
}

void ServiceWorld::WaitUntilItRuns() {
  ASSERT_TRUE(Eventually([&] {
    const v1::Trial trial = Trial();
    return trial.state() == v1::Trial::STATE_RUNNING && trial.step() > 20 &&
           !trial.checkpoint().empty();
  })) << Trial().DebugString()
      << Logs();
}

int ServiceWorld::HostOf(int place) {
  const v1::Trial trial = Trial();
  EXPECT_EQ(trial.attempts(0).hosts_size(), 2) << trial.DebugString();
  return trial.attempts(0).hosts(place)[1] - '0';  // "h2-abcdef"
}

void ServiceWorld::ExpectSucceeded(int attempts) {
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

}  // namespace saeloom::multihost
