// A server whose disk is full: it says so, refuses what is new, keeps what runs running, and goes
// on when there is space again.
#include <filesystem>

#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "proto/convert/sweep_convert.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "server/service/server.h"
#include "server/store/sqlite_store.h"
#include "server/testing/core_fixture.h"
#include "server/testing/faulty_vfs.h"
#include "server/testing/rpc_worker.h"

namespace sae::server::testing {
namespace {
namespace v1 = saeloom::v1;

class DiskFullTest : public ::testing::Test {
 protected:
  DiskFullTest() : vfs_("disk-full") {
    std::string folder = ::testing::TempDir() + "/disk_full_XXXXXX";
    folder_ = ::mkdtemp(folder.data());
  }
  ~DiskFullTest() override {
    if (server_ != nullptr) server_->Stop(absl::Seconds(5));
    server_ = nullptr;
    coordinator_ = nullptr;
    std::filesystem::remove_all(folder_);
  }
  void Start() {
    auto store = SqliteStore::Open(folder_ + "/c.db", vfs_.name());
    ASSERT_TRUE(store.ok()) << store.status();
    Coordinator::Options options;
    options.longest_wait = absl::Milliseconds(20);
    auto coordinator = Coordinator::Start(options, RealClock(), std::move(*store));
    ASSERT_TRUE(coordinator.ok()) << coordinator.status();
    coordinator_ = std::move(*coordinator);
    auto server = Server::Start({}, *coordinator_, nullptr);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    channel_ = grpc::CreateCustomChannel(server_->address(), grpc::InsecureChannelCredentials(),
                                         ClientChannelArguments(ChannelUse::kTelemetry));
  }
  grpc::Status Create(const std::string& name) {
    v1::CreateSweepRequest request;
    *request.mutable_spec() = sae::ToProto(MakeSpec(name, 1));
    grpc::ClientContext context;
    SetDeadline(context);
    v1::Sweep sweep;
    return v1::SweepService::NewStub(channel_)->CreateSweep(&context, request, &sweep);
  }
  /// Reads the health stream until it says `status` (1 serving, 2 not serving).
  void WaitForHealth(char status) {
    grpc::GenericStub stub(channel_);
    grpc::ClientContext context;
    SetDeadline(context);
    grpc::CompletionQueue queue;
    void* tag = nullptr;
    bool ok = false;
    const auto next = [&] { return queue.Next(&tag, &ok) && ok; };
    const auto call = stub.PrepareCall(&context, "/grpc.health.v1.Health/Watch", &queue);
    call->StartCall(nullptr);
    ASSERT_TRUE(next());
    const grpc::Slice empty("", 0);
    call->WriteLast(grpc::ByteBuffer(&empty, 1), {}, nullptr);
    ASSERT_TRUE(next());
    for (bool found = false; !found;) {
      grpc::ByteBuffer answer;
      call->Read(&answer, nullptr);
      ASSERT_TRUE(next()) << "the stream ended";
      std::vector<grpc::Slice> slices;
      ASSERT_TRUE(answer.Dump(&slices).ok());
      std::string bytes;
      for (const grpc::Slice& s : slices)
        bytes.append(reinterpret_cast<const char*>(s.begin()), s.size());
      found = bytes == std::string{'\x08', status};
    }
    context.TryCancel();
    grpc::Status end;
    call->Finish(&end, nullptr);
    next();
  }

  FaultyVfs vfs_;
  std::string folder_;
  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

TEST_F(DiskFullTest, ItSaysSoAndGoesOnWhenThereIsSpace) {
  ASSERT_NO_FATAL_FAILURE(Start());
  ASSERT_TRUE(Create("s").ok());
  RpcWorker worker(channel_, "w", 1);
  const auto start = worker.WaitForCommand().commands(0).start();
  ASSERT_EQ(worker.Report("s", "0000", 1, 1, {Line(1, config::EventKind::kStarted)}), 1);
  WaitForHealth(1);

  vfs_.FailFrom(0, FaultyVfs::Fault::kNoSpace);
  const grpc::Status refused = Create("t");
  EXPECT_EQ(refused.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED) << refused.error_message();
  EXPECT_THAT(refused.error_message(), ::testing::HasSubstr("free space on its disk"));
  WaitForHealth(2);
  worker.Beat();  // answered: its lease goes on

  vfs_.Heal();
  WaitForHealth(1);
  EXPECT_TRUE(Create("t").ok());
  EXPECT_EQ(worker.Report("s", "0000", 1, 2, {Line(2, config::EventKind::kMetrics, 1)}), 2)
      << "the same attempt";
}

}  // namespace
}  // namespace sae::server::testing
