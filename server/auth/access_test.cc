#include "server/auth/access.h"

#include <fstream>
#include <sstream>

#include <gmock/gmock.h>
#include <google/protobuf/descriptor.h>
#include <gtest/gtest.h>

#include "saeloom/v1/peer_service.pb.h"
#include "saeloom/v1/sweep_service.pb.h"
#include "saeloom/v1/worker_service.pb.h"

namespace sae::server {
namespace {
using ::testing::HasSubstr;

Principal Person(Role role) { return {"ann", role, "token", "id", ""}; }
Principal Worker() { return {"worker/w", Role::kWorker, "certificate", "", "w"}; }

TEST(Access, TheTableHasEveryMethodOfTheApiAndNoOther) {
  std::set<std::string> in_api, in_table;
  for (const google::protobuf::FileDescriptor* file :
       {saeloom::v1::CreateSweepRequest::descriptor()->file(),
        saeloom::v1::RegisterRequest::descriptor()->file(),
        saeloom::v1::ExecRequest::descriptor()->file()}) {
    for (int i = 0; i < file->service_count(); ++i) {
      const auto* service = file->service(i);
      for (int j = 0; j < service->method_count(); ++j) {
        in_api.insert(service->name() + "/" + service->method(j)->name());
        EXPECT_NE(FindMethod(service->full_name(), service->method(j)->name()), nullptr)
            << "a line of server/auth/access.cc is missing: " << service->method(j)->full_name();
      }
    }
  }
  for (const MethodAccess& m : AllMethods())
    in_table.insert(std::string(m.service) + "/" + m.method);
  EXPECT_EQ(in_table, in_api);
  EXPECT_EQ(in_table.size(), AllMethods().size()) << "a method twice";
}

TEST(Access, WhatChangesNeedsMoreThanToLook) {
  for (const MethodAccess& m : AllMethods()) {
    if (m.mutating) {
      EXPECT_GE(m.least, Role::kSubmitter) << m.method;
    }
    if (m.own) {
      EXPECT_TRUE(m.mutating) << m.method;
      EXPECT_EQ(m.least, Role::kSubmitter) << m.method;
    }
  }
}

TEST(Access, RolesAreInOrderAndWorkersApart) {
  for (const MethodAccess& m : AllMethods()) {
    if (m.least == Role::kWorker) {
      for (const Role r : {Role::kViewer, Role::kSubmitter, Role::kOperator, Role::kAdmin})
        EXPECT_TRUE(absl::IsPermissionDenied(Authorize(Person(r), m, true))) << m.method;
      EXPECT_TRUE(Authorize(Worker(), m, true).ok()) << m.method;
      EXPECT_FALSE(Authorize(Person(Role::kSubmitter), m, false).ok()) << m.method;
      EXPECT_TRUE(Authorize(Person(Role::kOperator), m, false).ok()) << m.method;
      continue;
    }
    EXPECT_EQ(Authorize(Worker(), m, true).ok(), std::string(m.method) == "WhoAmI") << m.method;
    EXPECT_FALSE(Authorize(Person(Role::kNone), m, true).ok()) << m.method;
    for (const Role r : {Role::kViewer, Role::kSubmitter, Role::kOperator, Role::kAdmin})
      EXPECT_EQ(Authorize(Person(r), m, true).ok(), r >= m.least) << m.method;
  }
  EXPECT_TRUE(Authorize(Anonymous(), *FindMethod("AuthService", "CreateToken"), false).ok());
}

TEST(Access, ARefusalSaysWhatIsNeeded) {
  const absl::Status status =
      Authorize(Person(Role::kViewer), *FindMethod("SweepService", "CreateSweep"), true);
  EXPECT_EQ(Message(status),
            "CreateSweep needs the role submitter, and ann is viewer; an admin can make a token "
            "with more rights");
  EXPECT_THAT(
      Message(Authorize(Person(Role::kAdmin), *FindMethod("WorkerService", "Register"), true)),
      HasSubstr("spiffe://TRUST/worker/NAME"));
}

TEST(Access, SubmittersChangeTheirOwnSweepsOnly) {
  const MethodAccess& cancel = *FindMethod("SweepService", "CancelSweep");
  EXPECT_TRUE(AuthorizeOwner(Person(Role::kSubmitter), cancel, "s", "ann").ok());
  const absl::Status other = AuthorizeOwner(Person(Role::kSubmitter), cancel, "s", "bob");
  EXPECT_TRUE(absl::IsPermissionDenied(other)) << other;
  EXPECT_THAT(Message(other), HasSubstr("sweep \"s\" belongs to bob"));
  EXPECT_FALSE(AuthorizeOwner(Person(Role::kSubmitter), cancel, "s", "").ok());
  EXPECT_TRUE(AuthorizeOwner(Person(Role::kOperator), cancel, "s", "bob").ok());
  const MethodAccess& get = *FindMethod("SweepService", "GetSweep");
  EXPECT_TRUE(AuthorizeOwner(Person(Role::kSubmitter), get, "s", "bob").ok());
}

TEST(Access, RolesOfTokensAreWords) {
  Role role = Role::kNone;
  EXPECT_TRUE(ParseTokenRole("operator", "role", role).ok());
  EXPECT_EQ(role, Role::kOperator);
  for (const char* bad : {"", "worker", "none", "Admin", "root"}) {
    const absl::Status status = ParseTokenRole(bad, "role", role);
    EXPECT_TRUE(absl::IsInvalidArgument(status)) << bad;
    EXPECT_THAT(Message(status), HasSubstr("role: ")) << bad;
  }
}

/// The table of docs/security.md, made from the one in code.
std::string Documented() {
  std::ostringstream out;
  out << "| role | may also call |\n|---|---|\n";
  for (const Role role :
       {Role::kViewer, Role::kSubmitter, Role::kOperator, Role::kAdmin, Role::kWorker}) {
    out << "| " << ToString(role) << " | ";
    std::string methods;
    for (const MethodAccess& m : AllMethods()) {
      if (m.least != role) continue;
      methods += std::string(methods.empty() ? "" : ", ") + m.method + (m.own ? "*" : "");
    }
    out << methods << " |\n";
  }
  return out.str();
}

TEST(Access, TheDocumentSaysTheSame) {
  std::ifstream file(SAE_SOURCE_DIR "/docs/security.md");
  std::stringstream text;
  text << file.rdbuf();
  EXPECT_NE(text.str().find(Documented()), std::string::npos) << "docs/security.md should hold:\n"
                                                              << Documented();
}

}  // namespace
}  // namespace sae::server
