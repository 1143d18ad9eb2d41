#include "server/service/stream_writer.h"

#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "saeloom/v1/sweep_service.grpc.pb.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;

/// Gives each reader three events at once, and no more until the reader has taken them.
class ThreeEvents final : public v1::TelemetryService::CallbackService {
  grpc::ServerWriteReactor<v1::SweepEvent>* WatchSweep(grpc::CallbackServerContext*,
                                                       const v1::WatchSweepRequest*) override {
    const auto writer = StreamWriter<v1::SweepEvent>::Make([] {}, [](grpc::StatusCode /*code*/) {});
    std::vector<v1::SweepEvent> batch(3);
    for (int i = 0; i < 3; ++i) batch[static_cast<std::size_t>(i)].set_seq(i + 1);
    writer->Give(std::move(batch));
    return writer.get();
  }
};

TEST(StreamWriter, ABatchArrivesWhereNothingElseIsSent) {
  ThreeEvents service;
  int port = 0;
  grpc::ServerBuilder builder;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(&service);
  const auto server = builder.BuildAndStart();
  const auto stub = v1::TelemetryService::NewStub(
      grpc::CreateChannel("127.0.0.1:" + std::to_string(port), grpc::InsecureChannelCredentials()));
  grpc::ClientContext context;
  // Only a batch that is stuck reaches it.
  context.set_deadline(
      gpr_time_add(gpr_now(GPR_CLOCK_MONOTONIC), gpr_time_from_seconds(20, GPR_TIMESPAN)));
  const auto reader = stub->WatchSweep(&context, v1::WatchSweepRequest());
  v1::SweepEvent event;
  for (int i = 1; i <= 3; ++i) {
    ASSERT_TRUE(reader->Read(&event)) << "event " << i;
    EXPECT_EQ(event.seq(), i);
  }
  context.TryCancel();
  while (reader->Read(&event)) {
  }
  EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  server->Shutdown();
}

}  // namespace
}  // namespace sae::server
