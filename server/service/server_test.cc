// The real services over loopback, with a client and a worker that speak gRPC. Ports are picked
// free.
#include "server/service/server.h"

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "proto/convert/sweep_convert.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "server/store/memory_store.h"
#include "server/testing/core_fixture.h"
#include "server/testing/rpc_worker.h"

namespace sae::server::testing {
namespace {
namespace v1 = saeloom::v1;
using config::EventKind;
using grpc::StatusCode;
using ::testing::HasSubstr;

class ServerTest : public ::testing::Test {
 protected:
  void SetUp() override { Start("127.0.0.1:0"); }
  void TearDown() override { Stop(); }
  void Start(const std::string& listen) {
    Coordinator::Options options;
    options.longest_wait = absl::Milliseconds(20);
    auto coordinator =
        Coordinator::Start(options, RealClock(), std::make_unique<MemoryStore>(disk_));
    ASSERT_TRUE(coordinator.ok()) << coordinator.status();
    coordinator_ = std::move(*coordinator);
    ServerOptions server_options;
    server_options.listen = listen;
    server_options.watch_heartbeat = absl::Milliseconds(50);
    auto server = Server::Start(server_options, *coordinator_, nullptr);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    channel_ = grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(),
                                         ClientChannelArguments(ChannelUse::kTelemetry));
    sweeps_ = v1::SweepService::NewStub(channel_);
    telemetry_ = v1::TelemetryService::NewStub(channel_);
  }
  void Stop() {
    if (server_ != nullptr) server_->Stop(absl::Seconds(5));
    server_ = nullptr;
    coordinator_ = nullptr;
  }
  grpc::Status Create(const config::SweepSpec& spec, v1::Sweep* sweep,
                      const std::string& request_id = "", bool validate_only = false) {
    v1::CreateSweepRequest request;
    request.set_parent("projects/default");
    *request.mutable_spec() = sae::ToProto(spec);
    request.set_request_id(request_id);
    request.set_validate_only(validate_only);
    grpc::ClientContext context;
    SetDeadline(context);
    return sweeps_->CreateSweep(&context, request, sweep);
  }
  template <typename Response, typename Stub, typename Request>
  std::pair<grpc::Status, Response> Call(grpc::Status (Stub::*method)(grpc::ClientContext*,
                                                                      const Request&, Response*),
                                         const Request& request) {
    grpc::ClientContext context;
    SetDeadline(context);
    Response response;
    Stub stub(channel_);
    const grpc::Status status = (stub.*method)(&context, request, &response);
    return {status, response};
  }
  v1::Trial GetTrial(const std::string& name) {
    v1::GetTrialRequest request;
    request.set_name(name);
    const auto [status, trial] = Call<v1::Trial>(&v1::TrialService::Stub::GetTrial, request);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return trial;
  }
  /// Reads the stream until `until` says so or it ends; heartbeats are left out.
  grpc::Status Watch(const std::string& sweep, std::int64_t after,
                     std::vector<v1::SweepEvent>& events,
                     const std::function<bool(const v1::SweepEvent&)>& until = nullptr) {
    grpc::ClientContext context;
    SetDeadline(context);
    v1::WatchSweepRequest request;
    request.set_name(sweep);
    request.set_after_seq(after);
    const auto reader = telemetry_->WatchSweep(&context, request);
    v1::SweepEvent event;
    while (reader->Read(&event)) {
      if (event.kind_case() != v1::SweepEvent::kHeartbeat) events.push_back(event);
      if (until && until(event)) {
        context.TryCancel();
        break;
      }
    }
    return reader->Finish();
  }
  /// A worker runs the only trial of "s" to its end, 20 points long.
  void RunTrial(RpcWorker& worker) {
    const v1::CoordinatorMessage message = worker.WaitForCommand();
    ASSERT_TRUE(message.commands(0).has_start()) << message.DebugString();
    const auto& start = message.commands(0).start();
    std::vector<std::string> lines = {Line(1, EventKind::kStarted)};
    for (std::int64_t i = 1; i <= 20; ++i) lines.push_back(Line(1 + i, EventKind::kMetrics, i));
    lines.push_back(Line(22, EventKind::kCheckpoint, 20));
    lines.push_back(Line(23, EventKind::kFinished, 20));
    ASSERT_EQ(worker.Report(start.sweep(), start.trial(), start.attempt(), 1, lines), 23);
    worker.End(start, 0, "finished");
  }

  std::shared_ptr<MemoryStore::Disk> disk_ = std::make_shared<MemoryStore::Disk>();
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::SweepService::Stub> sweeps_;
  std::unique_ptr<v1::TelemetryService::Stub> telemetry_;
};

TEST_F(ServerTest, ASweepRunsAndIsWatchedToItsEnd) {
  v1::Sweep sweep;
  ASSERT_TRUE(Create(MakeSpec("s", 1), &sweep).ok());
  EXPECT_EQ(sweep.name(), "projects/default/sweeps/s");
  EXPECT_EQ(sweep.trials().at("PENDING"), 1);
  std::vector<v1::SweepEvent> events;
  std::thread watcher([&] { EXPECT_TRUE(Watch("projects/default/sweeps/s", 0, events).ok()); });
  {
    RpcWorker worker(channel_, "w", 1);
    RunTrial(worker);
    watcher.join();
  }
  std::int64_t points = 0;
  for (std::size_t i = 0; i < events.size(); ++i) {
    EXPECT_EQ(events[i].seq(), static_cast<std::int64_t>(i) + 1) << "gap-free, in order";
    points += events[i].has_point() ? 1 : 0;
  }
  EXPECT_EQ(points, 20);
  EXPECT_EQ(events.back().sweep_change().state(), v1::Sweep::STATE_SUCCEEDED);

  const v1::Trial trial = GetTrial("projects/default/sweeps/s/trials/0000");
  EXPECT_EQ(trial.state(), v1::Trial::STATE_SUCCEEDED);
  EXPECT_EQ(trial.step(), 20);
  EXPECT_EQ(trial.total_steps(), 100);
  EXPECT_EQ(trial.parameters().at("sae.k").number_value(), 4);
  EXPECT_EQ(trial.config().sae().k(), 4);
  EXPECT_EQ(trial.directory(), "/runs/s/0000");
  EXPECT_EQ(trial.checkpoint(), "/runs/s/0000/checkpoints/step-20");
  ASSERT_EQ(trial.attempts_size(), 1);
  EXPECT_EQ(trial.attempts(0).outcome(), "succeeded");
}

TEST_F(ServerTest, AWatchResumesAcrossARestartWithoutGapOrDuplicate) {
  v1::Sweep sweep;
  ASSERT_TRUE(Create(MakeSpec("s", 1), &sweep).ok());
  std::vector<v1::SweepEvent> events;
  {
    RpcWorker worker(channel_, "w", 1);
    const auto start = worker.WaitForCommand().commands(0).start();
    ASSERT_EQ(worker.Report("s", start.trial(), 1, 1,
                            {Line(1, EventKind::kStarted), Line(2, EventKind::kMetrics, 1)}),
              2);
    Watch("s", 0, events, [](const v1::SweepEvent& e) { return e.has_point(); });
  }
  const std::string address = server_->address();
  Stop();
  Start(address);
  {
    RpcWorker worker(channel_, "w", 1, {{"s", "0000", 1}});
    EXPECT_EQ(worker.registered().attempts(0).seq(), 2);
    EXPECT_TRUE(worker.registered().attempts(0).wanted());
    ASSERT_EQ(worker.Report("s", "0000", 1, 3,
                            {Line(3, EventKind::kMetrics, 2), Line(4, EventKind::kFinished, 2)}),
              4);
    v1::StartAttempt start;
    start.set_sweep("s");
    start.set_trial("0000");
    start.set_attempt(1);
    worker.End(start, 0, "finished");
    EXPECT_TRUE(Watch("s", events.back().seq(), events).ok());
  }
  for (std::size_t i = 0; i < events.size(); ++i)
    EXPECT_EQ(events[i].seq(), static_cast<std::int64_t>(i) + 1);
  EXPECT_EQ(events.back().sweep_change().state(), v1::Sweep::STATE_SUCCEEDED);
}

TEST_F(ServerTest, AFirstBatchOfManyEventsArrivesAsOneOfOneDoes) {
  v1::Sweep sweep;
  ASSERT_TRUE(Create(MakeSpec("s", 1), &sweep).ok());
  RpcWorker worker(channel_, "w", 1);
  worker.WaitForCommand();
  ASSERT_EQ(worker.Report("s", "0000", 1, 1, {Line(1, EventKind::kStarted)}), 1);
  std::vector<v1::SweepEvent> events;
  Watch("s", 0, events, [](const v1::SweepEvent& e) {
    return e.trial_change().state() == v1::Trial::STATE_RUNNING;
  });
  EXPECT_GE(events.size(), 3u);
}

TEST_F(ServerTest, IdleStreamsGetHeartbeats) {
  v1::Sweep sweep;
  ASSERT_TRUE(Create(MakeSpec("s", 1), &sweep).ok());
  std::vector<v1::SweepEvent> events;
  std::int64_t head = -1;
  Watch("s", 0, events, [&](const v1::SweepEvent& e) {
    if (e.kind_case() != v1::SweepEvent::kHeartbeat) return false;
    head = e.seq();
    return true;
  });
  EXPECT_EQ(head, 1);
}

TEST_F(ServerTest, AReaderThatDoesNotReadHoldsUpNobody) {
  v1::Sweep sweep;
  ASSERT_TRUE(Create(MakeSpec("s", 1), &sweep).ok());
  RpcWorker worker(channel_, "w", 1);
  const auto start = worker.WaitForCommand().commands(0).start();
  grpc::ClientContext stuck;
  v1::WatchSweepRequest request;
  request.set_name("s");
  const auto reader = telemetry_->WatchSweep(&stuck, request);
  std::int64_t seq = 1;
  ASSERT_EQ(worker.Report("s", "0000", 1, 1, {Line(1, EventKind::kStarted)}), 1);
  for (int batch = 0; batch < 10; ++batch) {
    std::vector<std::string> lines;
    for (int i = 0; i < 500; ++i) {
      ++seq;
      lines.push_back(Line(seq, EventKind::kMetrics, seq));
    }
    ASSERT_EQ(worker.Report("s", "0000", 1, seq - 499, lines), seq);
  }
  EXPECT_EQ(GetTrial("s/0000").step(), seq);
  stuck.TryCancel();
}

TEST_F(ServerTest, ErrorsCarryCanonicalCodes) {
  v1::Sweep sweep;
  config::SweepSpec bad = MakeSpec("s", 1);
  bad.trial.sae.latents = 0;
  bad.trial.train.tokens = 0;
  grpc::Status status = Create(bad, &sweep);
  EXPECT_EQ(status.error_code(), StatusCode::INVALID_ARGUMENT);
  EXPECT_THAT(status.error_message(), HasSubstr("sae.latents"));
  EXPECT_THAT(status.error_message(), HasSubstr("train.tokens")) << "every problem";

  ASSERT_TRUE(Create(MakeSpec("s", 1), &sweep, "id").ok());
  EXPECT_EQ(Create(MakeSpec("s", 1), &sweep).error_code(), StatusCode::ALREADY_EXISTS);
  EXPECT_TRUE(Create(MakeSpec("s", 1), &sweep, "id").ok()) << "the same request";
  EXPECT_EQ(sweep.name(), "projects/default/sweeps/s");

  v1::GetSweepRequest get;
  get.set_name("nothing");
  EXPECT_EQ(Call<v1::Sweep>(&v1::SweepService::Stub::GetSweep, get).first.error_code(),
            StatusCode::NOT_FOUND);
  get.set_name("a/b/c");
  EXPECT_EQ(Call<v1::Sweep>(&v1::SweepService::Stub::GetSweep, get).first.error_code(),
            StatusCode::INVALID_ARGUMENT);
  std::vector<v1::SweepEvent> events;
  EXPECT_EQ(Watch("nothing", 0, events).error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(Watch("s", 99, events).error_code(), StatusCode::OUT_OF_RANGE);
}

TEST_F(ServerTest, ValidateOnlyChangesNothing) {
  v1::Sweep sweep;
  ASSERT_TRUE(Create(MakeSpec("s", 3), &sweep, "id", true).ok());
  EXPECT_EQ(sweep.trials().at("PENDING"), 3);
  EXPECT_EQ(
      Call<v1::ListSweepsResponse>(&v1::SweepService::Stub::ListSweeps, v1::ListSweepsRequest())
          .second.sweeps_size(),
      0);
}

TEST_F(ServerTest, ListsComeInPages) {
  v1::Sweep sweep;
  for (int i = 0; i < 5; ++i)
    ASSERT_TRUE(Create(MakeSpec("s" + std::to_string(i), 3), &sweep).ok());
  std::vector<std::string> names;
  v1::ListSweepsRequest request;
  request.set_page_size(2);
  do {
    const auto [status, page] =
        Call<v1::ListSweepsResponse>(&v1::SweepService::Stub::ListSweeps, request);
    ASSERT_TRUE(status.ok()) << status.error_message();
    for (const auto& s : page.sweeps()) names.push_back(BareName(s.name()));
    request.set_page_token(page.next_page_token());
  } while (!request.page_token().empty());
  EXPECT_EQ(names, (std::vector<std::string>{"s4", "s3", "s2", "s1", "s0"}));

  v1::ListTrialsRequest trials;
  trials.set_parent("s0");
  trials.set_page_size(2);
  const auto first =
      Call<v1::ListTrialsResponse>(&v1::TrialService::Stub::ListTrials, trials).second;
  ASSERT_EQ(first.trials_size(), 2);
  trials.set_page_token(first.next_page_token());
  const auto second =
      Call<v1::ListTrialsResponse>(&v1::TrialService::Stub::ListTrials, trials).second;
  ASSERT_EQ(second.trials_size(), 1);
  EXPECT_EQ(BareName(second.trials(0).name()), "0002");
  EXPECT_TRUE(second.next_page_token().empty());
  trials.set_parent("s1");  // the token is bound to its list
  EXPECT_EQ(
      Call<v1::ListTrialsResponse>(&v1::TrialService::Stub::ListTrials, trials).first.error_code(),
      StatusCode::INVALID_ARGUMENT);
}

TEST_F(ServerTest, LogsComeThroughTheWorkersSession) {
  v1::Sweep sweep;
  ASSERT_TRUE(Create(MakeSpec("s", 1), &sweep).ok());
  grpc::ClientContext early;
  v1::TailLogsRequest request;
  request.set_trial("s/0000");
  v1::LogChunk chunk;
  const auto before = telemetry_->TailLogs(&early, request);
  EXPECT_FALSE(before->Read(&chunk));
  EXPECT_EQ(before->Finish().error_code(), StatusCode::FAILED_PRECONDITION);

  RpcWorker worker(channel_, "w", 1);
  worker.WaitForCommand();
  grpc::ClientContext other;
  request.add_ranks(1);
  const auto none = telemetry_->TailLogs(&other, request);
  EXPECT_FALSE(none->Read(&chunk));
  const grpc::Status missing = none->Finish();
  EXPECT_EQ(missing.error_code(), StatusCode::NOT_FOUND);
  EXPECT_EQ(missing.error_message(), "trial s/0000 has no rank 1, only 0 to 0");
  request.clear_ranks();
  grpc::ClientContext context;
  SetDeadline(context);
  const auto reader = telemetry_->TailLogs(&context, request);
  const v1::FetchLogs fetch = worker.WaitForLogRequest();
  EXPECT_EQ(fetch.trial(), "0000");
  EXPECT_EQ(fetch.attempt(), 1);
  EXPECT_EQ(fetch.lines(), 20);
  worker.SendLog(fetch.request(), 0, "hello\n", false);
  worker.SendLog(fetch.request(), 1, "there\n", true);
  ASSERT_TRUE(reader->Read(&chunk));
  EXPECT_EQ(chunk.text(), "hello\n");
  ASSERT_TRUE(reader->Read(&chunk));
  EXPECT_EQ(chunk.text(), "there\n");
  EXPECT_EQ(chunk.rank(), 1);
  EXPECT_FALSE(reader->Read(&chunk));
  EXPECT_TRUE(reader->Finish().ok());
}

TEST_F(ServerTest, AReaderOfLogsThatLeavesIsToldToTheWorker) {
  v1::Sweep sweep;
  ASSERT_TRUE(Create(MakeSpec("s", 1), &sweep).ok());
  RpcWorker worker(channel_, "w", 1);
  worker.WaitForCommand();
  grpc::ClientContext context;
  v1::TailLogsRequest request;
  request.set_trial("s/0000");
  request.set_follow(true);
  const auto reader = telemetry_->TailLogs(&context, request);
  const v1::FetchLogs fetch = worker.WaitForLogRequest();
  EXPECT_TRUE(fetch.follow());
  context.TryCancel();
  reader->Finish();
  const v1::FetchLogs cancel = worker.WaitForLogRequest();
  EXPECT_EQ(cancel.request(), fetch.request());
  EXPECT_TRUE(cancel.cancel());
}

/// One unary call without generated code: bytes in, bytes out.
std::pair<grpc::Status, std::string> RawCall(const std::shared_ptr<grpc::Channel>& channel,
                                             const std::string& method,
                                             const std::string& request) {
  grpc::GenericStub stub(channel);
  grpc::ClientContext context;
  SetDeadline(context);
  const grpc::Slice slice(request);
  const grpc::ByteBuffer in(&slice, 1);
  grpc::ByteBuffer out;
  grpc::CompletionQueue queue;
  grpc::Status status;
  const auto call = stub.PrepareUnaryCall(&context, method, in, &queue);
  call->StartCall();
  call->Finish(&out, &status, nullptr);
  void* tag = nullptr;
  bool ok = false;
  queue.Next(&tag, &ok);
  std::string bytes;
  std::vector<grpc::Slice> slices;
  if (status.ok() && out.Dump(&slices).ok()) {
    for (const grpc::Slice& s : slices)
      bytes.append(reinterpret_cast<const char*>(s.begin()), s.size());
  }
  return {status, bytes};
}

TEST_F(ServerTest, HealthIsServing) {
  const auto [status, bytes] = RawCall(channel_, "/grpc.health.v1.Health/Check", "");
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(bytes, std::string("\x08\x01", 2)) << "HealthCheckResponse{status: SERVING}";
}

TEST_F(ServerTest, ReflectionNamesBothServices) {
  // A streaming call of one message: ServerReflectionRequest{list_services: "*"}.
  const auto [status, bytes] =
      RawCall(channel_, "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
              std::string("\x3a\x01*", 3));
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_THAT(bytes, HasSubstr("saeloom.v1.SweepService"));
  EXPECT_THAT(bytes, HasSubstr("saeloom.v1.WorkerService"));
}

TEST_F(ServerTest, ANewSessionReplacesTheOld) {
  RpcWorker first(channel_, "w", 1);
  first.Beat();
  RpcWorker second(channel_, "w", 1);
  second.Beat();
  EXPECT_EQ(first.Finish().error_code(), StatusCode::ABORTED);
  v1::ListWorkersResponse workers =
      Call<v1::ListWorkersResponse>(&v1::FleetService::Stub::ListWorkers, v1::ListWorkersRequest())
          .second;
  ASSERT_EQ(workers.workers_size(), 1);
  EXPECT_EQ(workers.workers(0).state(), "ready");
  EXPECT_EQ(workers.workers(0).free_slots(), 1);
}

TEST_F(ServerTest, APortInUseIsAClearError) {
  auto other = Coordinator::Start(
      {}, RealClock(), std::make_unique<MemoryStore>(std::make_shared<MemoryStore::Disk>()));
  ASSERT_TRUE(other.ok());
  ServerOptions options;
  options.listen = server_->address();
  const absl::Status status = Server::Start(options, **other, nullptr).status();
  EXPECT_TRUE(absl::IsFailedPrecondition(status)) << status;
  EXPECT_THAT(Message(status), HasSubstr("the address is in use"));
  EXPECT_THAT(Message(status), HasSubstr(options.listen));
}

TEST(ListenAddress, OnlyLoopbackUnlessToldOtherwise) {
  for (const char* good : {"127.0.0.1:0", "localhost:7", "[::1]:7"})
    EXPECT_TRUE(CheckListenAddress(good, false, "-l").ok());
  EXPECT_TRUE(absl::IsPermissionDenied(CheckListenAddress("0.0.0.0:7", false, "--listen")));
  EXPECT_TRUE(CheckListenAddress("0.0.0.0:7", true, "--listen").ok());
  for (const char* bad : {"", "7", ":7", "localhost", "localhost:x", "localhost:70000"}) {
    EXPECT_TRUE(absl::IsInvalidArgument(CheckListenAddress(bad, true, "--listen"))) << bad;
  }
}

}  // namespace
}  // namespace sae::server::testing
