#include "tests/e2e/service_rig.h"

#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/base/hash.h"

namespace saeloom::e2e {
namespace {

constexpr int kLatents = 256;

std::string Bare(const std::string& name) { return name.substr(name.rfind('/') + 1); }

/// A call with a deadline; the coordinator may be away, then `false`.
template <class Call>
bool Rpc(Call call) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(sae::RealClock().Now() + absl::Seconds(10)));
  context.set_wait_for_ready(true);
  return call(context).ok();
}

std::shared_ptr<grpc::Channel> Connect(const std::string& address) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, 200);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, 50);
  arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, 50);
  return grpc::CreateCustomChannel(address, grpc::InsecureChannelCredentials(), arguments);
}

}  // namespace

void ServiceRig::StartCoordinator() {
  const std::string port_file = folder_ / "ports.json";
  sae::RealEnv().RemoveAll(port_file).IgnoreError();
  Spawn("coordinator",
        {Binary("saeloom-coordinator"), "--data", folder_ / "data", "--listen",
         address_.empty() ? "127.0.0.1:0" : address_, "--port-file", port_file, "--heartbeat",
         options_.heartbeat, "--lease", options_.lease, "--retry-delay", "100ms"});
  address_ = AddressIn(port_file);
  ASSERT_NE(address_, "");
  const auto channel = Connect(address_);
  stub_ = v1::SweepService::NewStub(channel);
  trials_ = v1::TrialService::NewStub(channel);
  telemetry_ = v1::TelemetryService::NewStub(channel);
}

void ServiceRig::StartWorker(const std::string& name, int slots) {
  Spawn(name, {Binary("saeloom-worker"), "--coordinator", address_, "--runs", runs(), "--name",
               name, "--slots", absl::StrCat(slots), "--device", "cpu", "--grace", "20"});
}

void ServiceRig::Submit(int trials, int steps, int pack) {
  v1::CreateSweepRequest request;
  request.set_parent("projects/default");
  request.set_request_id("once");
  v1::SweepSpec& spec = *request.mutable_spec();
  spec.set_name("demo");
  spec.set_store(store());
  spec.set_store_hash(sae::HashToText(sae::Xxh3(*sae::RealEnv().Read(store() + "/manifest.json"))));
  spec.set_store_d(kWidth);
  v1::TrialSpec& trial = *spec.mutable_trial();
  trial.set_ranks(2);
  trial.mutable_sae()->set_architecture("topk");
  trial.mutable_sae()->set_latents(kLatents);
  trial.mutable_train()->set_batch(kBatch);
  trial.mutable_train()->set_tokens(static_cast<double>(kBatch) * steps);
  trial.mutable_train()->set_log_every_steps(1);
  trial.mutable_train()->set_checkpoint_every_seconds(0.3);
  auto& k = *spec.add_parameters()->add_parameters();
  k.set_path("sae.k");
  for (int i = 1; i <= trials; ++i) k.mutable_values()->add_values()->set_number_value(2 * i);
  spec.mutable_objective()->set_metric("heldout.fvu");
  spec.mutable_objective()->set_goal(v1::Objective::GOAL_MINIMIZE);
  spec.mutable_search()->mutable_grid();
  spec.set_pack(pack);
  v1::Sweep sweep;
  grpc::ClientContext context;
  const grpc::Status status = stub_->CreateSweep(&context, request, &sweep);
  ASSERT_TRUE(status.ok()) << status.error_message();
}

v1::Sweep ServiceRig::GetSweep() {
  v1::GetSweepRequest request;
  request.set_name("projects/default/sweeps/demo");
  v1::Sweep sweep;
  Rpc([&](auto& context) { return stub_->GetSweep(&context, request, &sweep); });
  return sweep;
}

std::vector<v1::Trial> ServiceRig::GetTrials() {
  v1::ListTrialsRequest list;
  list.set_parent("projects/default/sweeps/demo");
  v1::ListTrialsResponse trials;
  Rpc([&](auto& context) { return trials_->ListTrials(&context, list, &trials); });
  std::vector<v1::Trial> out;
  for (const auto& t : trials.trials()) {
    v1::GetTrialRequest get;
    get.set_name(t.name());
    Rpc([&](auto& context) { return trials_->GetTrial(&context, get, &out.emplace_back()); });
  }
  return out;
}

std::vector<std::int64_t> ServiceRig::Steps(const std::string& trial) {
  v1::QueryMetricsRequest request;
  request.set_trial("projects/default/sweeps/demo/trials/" + trial);
  request.add_metrics("train.loss");
  v1::QueryMetricsResponse response;
  Rpc([&](auto& context) { return telemetry_->QueryMetrics(&context, request, &response); });
  if (response.series().empty()) return {};
  return {response.series(0).steps().begin(), response.series(0).steps().end()};
}

bool ServiceRig::WaitUntilUnderWay(const std::string& trial, std::int64_t step) {
  return WaitUntil([&] {
    for (const v1::Trial& t : GetTrials()) {
      if (Bare(t.name()) != trial) continue;
      return t.state() == v1::Trial::STATE_RUNNING && t.step() >= step && !t.checkpoint().empty() &&
             Ranks(trial).size() == 2;
    }
    return false;
  });
}

bool ServiceRig::WaitUntilEnded() {
  return WaitUntil([&] {
    const auto state = GetSweep().state();
    return state != v1::Sweep::STATE_RUNNING && state != v1::Sweep::STATE_UNSPECIFIED;
  });
}

std::map<int, pid_t> ServiceRig::Ranks(const std::string& trial) {
  std::map<int, pid_t> out;
  for (int attempt = 1; attempt < 20; ++attempt) {
    for (int rank = 0; rank < 2; ++rank) {
      const auto found = sae::FindProcesses(
          {.marks = {mark(), absl::StrCat("SAELOOM_ATTEMPT=demo/", trial, "/", attempt),
                     absl::StrCat("OMPI_COMM_WORLD_RANK=", rank)}});
      for (const auto& p : found) out[rank] = p.pid;
    }
    if (!out.empty()) break;
  }
  return out;
}

}  // namespace saeloom::e2e
