// Every role against every method, through real connections: what the table says is what happens.
#include <gmock/gmock.h>

#include "server/auth/access.h"
#include "server/testing/secure_server.h"

namespace sae::server::testing {
namespace {
using grpc::StatusCode;

class AccessMatrixTest : public SecureServerTest {
 protected:
  void SetUp() override { Start(); }
  /// Refused for what the caller is, or let through: to its handler, whatever that says of an empty
  /// request.
  void Expect(const std::shared_ptr<grpc::Channel>& channel, const MethodAccess& access, bool may,
              StatusCode refusal) {
    const grpc::Status status =
        RawCall(channel, absl::StrCat("/saeloom.v1.", access.service, "/", access.method));
    // A method without a handler tells everybody so.
    if (status.error_code() == StatusCode::UNIMPLEMENTED) return;
    if (may) {
      EXPECT_NE(status.error_code(), StatusCode::PERMISSION_DENIED) << access.method;
      EXPECT_NE(status.error_code(), StatusCode::UNAUTHENTICATED) << access.method;
      EXPECT_NE(status.error_code(), StatusCode::UNAVAILABLE) << access.method;
    } else {
      EXPECT_EQ(status.error_code(), refusal) << access.method << ": " << status.error_message();
    }
    ++checked_;
  }
  /// Those that this server has.
  static std::vector<MethodAccess> Methods() {
    std::vector<MethodAccess> out;
    for (const MethodAccess& m : AllMethods()) {
      if (std::string(m.service) != "PeerService") out.push_back(m);
    }
    return out;
  }
  int checked_ = 0;
};

TEST_F(AccessMatrixTest, PeopleMayWhatTheirRoleMay) {
  const std::pair<std::string, Role> roles[] = {{"viewer", Role::kViewer},
                                                {"submitter", Role::kSubmitter},
                                                {"operator", Role::kOperator},
                                                {"admin", Role::kAdmin}};
  for (const auto& [name, role] : roles) {
    SCOPED_TRACE(name);
    const auto channel = Channel(TokenOf(name, name));
    for (const MethodAccess& m : Methods()) {
      const bool may = m.least != Role::kWorker && role >= m.least;
      Expect(channel, m, may, StatusCode::PERMISSION_DENIED);
    }
  }
  EXPECT_GT(checked_, 4 * 15) << "the methods are not served";
}

TEST_F(AccessMatrixTest, WithoutATokenNobodyMayAnything) {
  const auto channel = Channel("");
  for (const MethodAccess& m : Methods()) Expect(channel, m, false, StatusCode::UNAUTHENTICATED);
  EXPECT_GT(checked_, 15);
}

TEST_F(AccessMatrixTest, AWorkersCertificateIsNoPass) {
  const auto channel = WorkerChannel("w");
  for (const MethodAccess& m : Methods()) {
    if (m.least == Role::kWorker) continue;  // an empty message names no worker
    Expect(channel, m, std::string(m.method) == "WhoAmI", StatusCode::PERMISSION_DENIED);
  }
  RpcWorker worker(channel, "w", 1);
  EXPECT_EQ(worker.Beat().epoch(), worker.registered().epoch());
}

TEST_F(AccessMatrixTest, HealthIsOpen) {
  EXPECT_TRUE(RawCall(Channel(""), "/grpc.health.v1.Health/Check").ok());
}

}  // namespace
}  // namespace sae::server::testing
