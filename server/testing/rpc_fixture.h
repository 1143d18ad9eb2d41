#pragma once
// A coordinator over an in-memory disk behind real gRPC on loopback, and a client. Include it only
// in tests of the gRPC glue (server/CMakeLists.txt says why).

#include <gmock/gmock.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include "proto/convert/error_details.h"
#include "proto/convert/sweep_convert.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"
#include "server/service/server.h"
#include "server/store/memory_store.h"
#include "server/testing/core_fixture.h"
#include "server/testing/rpc_worker.h"

namespace sae::server::testing {

class RpcTest : public ::testing::Test {
 protected:
  using Sweeps = saeloom::v1::SweepService::Stub;
  using Trials = saeloom::v1::TrialService::Stub;

  void SetUp() override {
    Coordinator::Options options;
    options.longest_wait = absl::Milliseconds(20);
    auto coordinator = Coordinator::Start(
        options, RealClock(), std::make_unique<MemoryStore>(std::make_shared<MemoryStore::Disk>()));
    ASSERT_TRUE(coordinator.ok()) << coordinator.status();
    coordinator_ = std::move(*coordinator);
    auto server = Server::Start({}, *coordinator_, nullptr);
    ASSERT_TRUE(server.ok()) << server.status();
    server_ = std::move(*server);
    channel_ = grpc::CreateChannel(server_->address(), grpc::InsecureChannelCredentials());
  }
  void TearDown() override {
    if (server_ != nullptr) server_->Stop(absl::Seconds(5));
  }

  template <typename Stub, typename Request, typename Response>
  grpc::Status Call(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                    const Request& request, Response* response) {
    grpc::ClientContext context;
    SetDeadline(context);
    Stub stub(channel_);
    return (stub.*method)(&context, request, response);
  }
  /// Must succeed.
  template <typename Stub, typename Request, typename Response>
  Response Good(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                const Request& request) {
    Response response;
    const grpc::Status status = Call(method, request, &response);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return response;
  }
  /// Must fail.
  template <typename Stub, typename Request, typename Response>
  grpc::Status Bad(grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                   const Request& request) {
    Response response;
    const grpc::Status status = Call(method, request, &response);
    EXPECT_FALSE(status.ok()) << response.DebugString();
    return status;
  }
  saeloom::v1::Sweep Create(const config::SweepSpec& spec) {
    saeloom::v1::CreateSweepRequest request;
    *request.mutable_spec() = sae::ToProto(spec);
    return Good(&Sweeps::CreateSweep, request);
  }
  saeloom::v1::Trial GetTrial(const std::string& name) {
    saeloom::v1::GetTrialRequest request;
    request.set_name(name);
    return Good(&Trials::GetTrial, request);
  }
  template <typename Request>
  static Request Named(const std::string& name, const std::string& request_id = "") {
    Request request;
    request.set_name(name);
    request.set_request_id(request_id);
    return request;
  }

  std::unique_ptr<Coordinator> coordinator_;
  std::unique_ptr<Server> server_;
  std::shared_ptr<grpc::Channel> channel_;
};

}  // namespace sae::server::testing
