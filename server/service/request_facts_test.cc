#include "server/service/request_facts.h"

#include <gtest/gtest.h>

#include "saeloom/v1/sweep_service.pb.h"
#include "saeloom/v1/worker_service.pb.h"
#include "server/service/gate.h"

namespace sae::server {
namespace {
namespace v1 = saeloom::v1;

TEST(RequestFacts, NameWhatARequestIsAbout) {
  v1::CreateSweepRequest create;
  create.set_parent("projects/default");
  EXPECT_EQ(ReadRequest(create).resource, "projects/default");
  create.mutable_spec()->set_name("s");
  create.set_request_id("r-1");
  RequestFacts facts = ReadRequest(create);
  EXPECT_EQ(facts.resource, "s") << "it says more than the project";
  EXPECT_EQ(facts.request_id, "r-1");
  EXPECT_FALSE(facts.dry_run);
  create.set_validate_only(true);
  EXPECT_TRUE(ReadRequest(create).dry_run);

  v1::UpdateSweepRequest update;
  update.mutable_sweep()->set_name("projects/default/sweeps/s");
  EXPECT_EQ(ReadRequest(update).resource, "projects/default/sweeps/s");
  v1::UpdateQueueRequest queue;
  queue.mutable_queue()->set_name("research");
  EXPECT_EQ(ReadRequest(queue).resource, "research");
  v1::ForkSweepRequest fork;
  fork.set_source("projects/default/sweeps/s/trials/0001");
  EXPECT_EQ(ReadRequest(fork).resource, "projects/default/sweeps/s/trials/0001");
  v1::CordonWorkerRequest cordon;
  cordon.set_id("gpu-1");
  EXPECT_EQ(ReadRequest(cordon).resource, "gpu-1");
  v1::CollectCheckpointsRequest collect;
  collect.set_parent("s");
  collect.set_dry_run(true);
  EXPECT_EQ(ReadRequest(collect).resource, "s");
  EXPECT_TRUE(ReadRequest(collect).dry_run);
  v1::CreateTokenRequest token;
  token.set_principal("ann");
  EXPECT_EQ(ReadRequest(token).resource, "ann");
  EXPECT_EQ(ReadRequest(v1::ListWorkersRequest()).resource, "");
  v1::RegisterRequest worker;
  worker.set_worker_id("w");
  EXPECT_EQ(ReadRequest(worker).resource, "w");
}

/// The methods that change a sweep of the caller's own all name it where the gate looks.
TEST(RequestFacts, TheSweepOfEveryMethodThatNeedsItsOwnerIsFound) {
  const google::protobuf::FileDescriptor* file = v1::CreateSweepRequest::descriptor()->file();
  for (const MethodAccess& access : AllMethods()) {
    if (!access.own) continue;
    const auto* service = file->FindServiceByName(access.service);
    ASSERT_NE(service, nullptr) << access.service;
    const auto* type = service->FindMethodByName(access.method)->input_type();
    const std::unique_ptr<google::protobuf::Message> request(
        google::protobuf::MessageFactory::generated_factory()->GetPrototype(type)->New());
    const auto* reflection = request->GetReflection();
    bool filled = false;
    for (const char* field : {"name", "parent", "sweep"}) {
      const auto* found = type->FindFieldByName(field);
      if (found == nullptr) continue;
      filled = true;
      if (found->message_type() != nullptr) {
        static_cast<v1::Sweep*>(reflection->MutableMessage(request.get(), found))
            ->set_name("projects/default/sweeps/s");
      } else {
        reflection->SetString(request.get(), found, "projects/default/sweeps/s/trials/0001");
      }
    }
    EXPECT_TRUE(filled) << access.method;
    EXPECT_EQ(SweepOfResource(ReadRequest(*request).resource), "s") << access.method;
  }
}

TEST(RequestFacts, TheSweepOfAName) {
  EXPECT_EQ(SweepOfResource("projects/default/sweeps/s"), "s");
  EXPECT_EQ(SweepOfResource("projects/default/sweeps/s/trials/0001/checkpoints/step-5"), "s");
  EXPECT_EQ(SweepOfResource("s/0001"), "s");
  EXPECT_EQ(SweepOfResource("s"), "s");
  EXPECT_EQ(SweepOfResource(""), "");
}

}  // namespace
}  // namespace sae::server
