#include "tests/e2e/service_rig.h"

#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <unistd.h>

#include <grpcpp/create_channel.h>
#include <gtest/gtest.h>

#include "sae/base/clock.h"
#include "sae/base/hash.h"
#include "sae/data/store_create.h"

namespace saeloom::e2e {
namespace {

constexpr char kMark[] = "SAELOOM_E2E";
constexpr int kLatents = 256;
constexpr absl::Duration kPoll = absl::Milliseconds(20);
constexpr absl::Duration kHang = absl::Seconds(120);

std::string Binary(const std::string& name) {
  const auto path = sae::FindSibling("", "--build-folder", name, sae::ExecutableDirectory());
  EXPECT_TRUE(path.ok()) << path.status();
  return path.ok() ? *path : "/bin/false";
}

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

ServiceRig::ServiceRig(const RigOptions& options)
    : options_(options), mark_(absl::StrCat(kMark, "=", ::getpid(), ".", folder_.path())) {
  sae::data::SyntheticSpec spec;
  spec.options.d = kWidth;
  spec.options.features = 64;
  spec.rows = 6000;
  sae::data::StoreWriterOptions writer;
  writer.directory = folder_ / "store";
  writer.d = kWidth;
  const auto manifest = sae::data::CreateSyntheticStore(spec, writer);
  EXPECT_TRUE(manifest.ok()) << manifest.status();
}

ServiceRig::~ServiceRig() {
  const auto left = [&] { return sae::SignalProcesses({.marks = {mark_}}, SIGKILL); };
  EXPECT_TRUE(WaitUntil([&] { return left() == 0; }));
}

bool ServiceRig::WaitUntil(const std::function<bool()>& condition) {
  const absl::Duration end = sae::RealClock().SinceBoot() + kHang;
  while (!condition()) {
    if (sae::RealClock().SinceBoot() > end) return false;
    sae::RealClock().SleepFor(kPoll);
  }
  return true;
}

void ServiceRig::Spawn(const std::string& name, std::vector<std::string> argv) {
  sae::ProcessSpec spec;
  spec.argv = std::move(argv);
  spec.output = folder_ / (name + ".log");
  spec.errors = spec.output;
  spec.environment[kMark] = mark_.substr(sizeof kMark);
  auto process = sae::Process::Spawn(spec);
  ASSERT_TRUE(process.ok()) << process.status();
  processes_[name] = *std::move(process);
}

void ServiceRig::StartCoordinator() {
  const std::string port_file = folder_ / "ports.json";
  sae::RealEnv().RemoveAll(port_file).IgnoreError();
  Spawn("coordinator",
        {Binary("saeloom-coordinator"), "--data", folder_ / "data", "--listen",
         address_.empty() ? "127.0.0.1:0" : address_, "--port-file", port_file, "--heartbeat",
         options_.heartbeat, "--lease", options_.lease, "--retry-delay", "100ms"});
  ASSERT_TRUE(WaitUntil([&] { return sae::RealEnv().Exists(port_file); })) << Logs();
  address_ = nlohmann::json::parse(*sae::RealEnv().Read(port_file)).at("listen");
  const auto channel = Connect(address_);
  stub_ = v1::SweepService::NewStub(channel);
  trials_ = v1::TrialService::NewStub(channel);
  telemetry_ = v1::TelemetryService::NewStub(channel);
}

void ServiceRig::StartWorker(const std::string& name, int slots) {
  Spawn(name, {Binary("saeloom-worker"), "--coordinator", address_, "--runs", folder_ / "runs",
               "--name", name, "--slots", absl::StrCat(slots), "--device", "cpu", "--grace", "20"});
}

void ServiceRig::Kill(const std::string& process) {
  ASSERT_TRUE(processes_.at(process)->Signal(SIGKILL).ok());
  const auto exit = processes_.at(process)->Wait(kHang);
  ASSERT_TRUE(exit.ok() && exit->has_value());
}

void ServiceRig::Terminate(const std::string& process) {
  ASSERT_TRUE(processes_.at(process)->Signal(SIGTERM).ok());
  const auto exit = processes_.at(process)->Wait(kHang);
  ASSERT_TRUE(exit.ok() && exit->has_value()) << process << " does not end\n" << Logs();
  EXPECT_EQ((*exit)->ShellCode(), 0) << process << "\n" << Logs();
}

void ServiceRig::Submit(int trials, int steps, int pack) {
  v1::CreateSweepRequest request;
  request.set_parent("projects/default");
  request.set_request_id("once");
  v1::SweepSpec& spec = *request.mutable_spec();
  spec.set_name("demo");
  spec.set_store(folder_ / "store");
  spec.set_store_hash(
      sae::HashToText(sae::Xxh3(*sae::RealEnv().Read(folder_ / "store/manifest.json"))));
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
          {.marks = {mark_, absl::StrCat("SAELOOM_ATTEMPT=demo/", trial, "/", attempt),
                     absl::StrCat("OMPI_COMM_WORLD_RANK=", rank)}});
      for (const auto& p : found) out[rank] = p.pid;
    }
    if (!out.empty()) break;
  }
  return out;
}

std::vector<sae::ProcessInfo> ServiceRig::Processes(const std::vector<std::string>& except) const {
  auto all = sae::FindProcesses({.marks = {mark_}});
  for (const std::string& name : except) {
    std::erase_if(all, [&](const auto& p) { return p.pid == PidOf(name); });
  }
  return all;
}

std::string ServiceRig::Logs() const {
  const auto run =
      sae::RunProcess({.argv = {"/bin/sh", "-c",
                                "tail -n 25 *.log runs/demo/*/attempts/*/launcher.log 2>/dev/null"},
                       .directory = folder_.path()},
                      absl::Seconds(10));
  return run.ok() ? run->output : "";
}

}  // namespace saeloom::e2e
