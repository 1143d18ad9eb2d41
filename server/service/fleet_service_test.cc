// Workers, queues and allocations as people see them: over real gRPC on loopback.
#include <nlohmann/json.hpp>

#include "server/testing/rpc_fixture.h"

namespace sae::server::testing {
namespace {
namespace v1 = saeloom::v1;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Fleet = v1::FleetService::Stub;

class FleetServiceTest : public RpcTest {
 protected:
  /// Registers a worker; nothing of it runs anywhere.
  void Register(const std::string& id, int slots) {
    v1::RegisterRequest request;
    request.set_worker_id(id);
    request.set_boot_id("boot");
    request.set_incarnation("1");
    request.set_slots(slots);
    request.set_gpus(slots);
    request.set_runs_directory("/runs");
    request.set_runs_id("runs");
    request.set_version("9.9");
    request.set_rack("r1");
    request.set_peer_address(id + ":1");
    request.set_mpi_host(id);
    request.set_memory_bytes(std::int64_t{1} << 40);
    Good(&v1::WorkerService::Stub::Register, request);
  }
  /// Two trials of three ranks.
  static config::SweepSpec Wide() {
    config::SweepSpec spec = MakeSpec("s", 2, 3);
    spec.trial.sae.latents = 1536;
    return spec;
  }
  v1::Worker GetWorker(const std::string& id) {
    v1::GetWorkerRequest request;
    request.set_id(id);
    return Good(&Fleet::GetWorker, request);
  }
  v1::Queue SetQueue(const std::string& name, std::int64_t quota, const std::string& id = "") {
    v1::UpdateQueueRequest request;
    request.mutable_queue()->set_name(name);
    request.mutable_queue()->set_quota_slots(quota);
    request.mutable_update_mask()->add_paths("quota_slots");
    request.set_request_id(id);
    return Good(&Fleet::UpdateQueue, request);
  }
};

TEST_F(FleetServiceTest, WorkersComeInPagesWithAllTheirFields) {
  for (const char* id : {"c", "a", "b"}) Register(id, 2);
  v1::ListWorkersRequest request;
  request.set_page_size(2);
  v1::ListWorkersResponse page = Good(&Fleet::ListWorkers, request);
  ASSERT_EQ(page.workers_size(), 2);
  EXPECT_EQ(page.workers(0).id(), "a");
  EXPECT_EQ(page.workers(1).id(), "b");
  request.set_page_token(page.next_page_token());
  page = Good(&Fleet::ListWorkers, request);
  ASSERT_EQ(page.workers_size(), 1);
  EXPECT_EQ(page.workers(0).id(), "c");
  EXPECT_EQ(page.next_page_token(), "");
  request.set_page_token("nonsense");
  EXPECT_EQ(Bad(&Fleet::ListWorkers, request).error_code(), grpc::INVALID_ARGUMENT);

  const v1::Worker a = GetWorker("a");
  EXPECT_EQ(a.state(), "ready");
  EXPECT_EQ(a.free_slots(), 2);
  EXPECT_EQ(a.rack(), "r1");
  EXPECT_EQ(a.gpus(), 2);
  EXPECT_EQ(a.memory_bytes(), std::int64_t{1} << 40);
  EXPECT_EQ(a.version(), "9.9");
  EXPECT_EQ(a.recent_failures(), 0);
  v1::GetWorkerRequest none;
  none.set_id("x");
  EXPECT_EQ(Bad(&Fleet::GetWorker, none).error_code(), grpc::NOT_FOUND);
}

TEST_F(FleetServiceTest, ACordonAndADrainShow) {
  Register("w", 2);
  Create(MakeSpec("s", 1));
  EXPECT_THAT(GetWorker("w").attempts(), ElementsAre("s/0000/attempts/1"));
  v1::CordonWorkerRequest cordon;
  cordon.set_id("w");
  cordon.set_reason("a fan is loud");
  cordon.set_request_id("id-1");
  EXPECT_EQ(Good(&Fleet::CordonWorker, cordon).state(), "cordoned");
  EXPECT_EQ(GetWorker("w").reason(), "a fan is loud");
  cordon.set_reason("another");
  EXPECT_EQ(Bad(&Fleet::CordonWorker, cordon).error_code(), grpc::INVALID_ARGUMENT)
      << "the id was used for another reason";
  v1::UncordonWorkerRequest uncordon;
  uncordon.set_id("w");
  EXPECT_EQ(Good(&Fleet::UncordonWorker, uncordon).state(), "ready");
}

TEST_F(FleetServiceTest, QueuesAreMadeAndChanged) {
  Register("w", 8);
  EXPECT_EQ(SetQueue("research", 2, "id-1").weight(), 1);
  EXPECT_EQ(SetQueue("research", 2, "id-1").quota_slots(), 2);
  config::SweepSpec spec = MakeSpec("s", 5);
  spec.queue = "research";
  Create(spec);
  const v1::ListQueuesResponse queues = Good(&Fleet::ListQueues, v1::ListQueuesRequest());
  ASSERT_EQ(queues.queues_size(), 2);
  EXPECT_EQ(queues.queues(0).name(), "default");
  EXPECT_EQ(queues.queues(1).used_slots(), 2);
  EXPECT_EQ(queues.queues(1).pending_trials(), 3);
  v1::UpdateQueueRequest bad;
  bad.mutable_queue()->set_name("research");
  bad.mutable_update_mask()->add_paths("used_slots");
  EXPECT_THAT(Bad(&Fleet::UpdateQueue, bad).error_message(),
              HasSubstr("update_mask: \"used_slots\" cannot be changed"));
  bad.mutable_update_mask()->clear_paths();
  bad.mutable_update_mask()->add_paths("weight");
  bad.mutable_queue()->set_weight(-1);
  EXPECT_THAT(Bad(&Fleet::UpdateQueue, bad).error_message(),
              HasSubstr("queue.weight: -1, must be above 0"));
  // A sweep of a queue that there is not, by either way.
  spec.name = "t";
  spec.queue = "other";
  v1::CreateSweepRequest create;
  *create.mutable_spec() = sae::ToProto(spec);
  EXPECT_THAT(Bad(&Sweeps::CreateSweep, create).error_message(),
              HasSubstr("there is no queue \"other\"; there are default, research"));
  create.set_validate_only(true);
  EXPECT_EQ(Bad(&Sweeps::CreateSweep, create).error_code(), grpc::INVALID_ARGUMENT);
}

TEST_F(FleetServiceTest, AnAllocationShowsItsWorkers) {
  Register("a", 2);
  Register("b", 2);
  Create(Wide());
  v1::GetAllocationRequest request;
  request.set_trial("s/0000");
  const v1::Allocation allocation = Good(&Fleet::GetAllocation, request);
  EXPECT_EQ(allocation.attempt(), "projects/default/sweeps/s/trials/0000/attempts/1");
  EXPECT_THAT(allocation.workers(), ElementsAre("a", "b"));
  EXPECT_THAT(allocation.slots(), ElementsAre(2, 1));
  EXPECT_EQ(allocation.state(), "preparing");
  request.set_trial("s/0001");
  EXPECT_EQ(Bad(&Fleet::GetAllocation, request).error_code(), grpc::FAILED_PRECONDITION);
}

TEST_F(FleetServiceTest, DebugInfoCountsAndHoldsNoSecret) {
  Register("a", 2);
  Register("b", 2);
  Create(Wide());
  const std::string text = Good(&Fleet::GetDebugInfo, v1::GetDebugInfoRequest()).json();
  const auto info = nlohmann::json::parse(text);
  EXPECT_EQ(info["workers"].size(), 2U);
  EXPECT_EQ(info["trials"]["ALLOCATED"], 1);
  EXPECT_EQ(info["queues"]["default"]["used_slots"], 3);
  EXPECT_EQ(info["refused_events"], 0);
  EXPECT_EQ(info["outbox_depth"], 2) << "each of two is to prepare";
  EXPECT_EQ(text.find("token"), std::string::npos);
  EXPECT_EQ(text.find("/data/store"), std::string::npos);
}

}  // namespace
}  // namespace sae::server::testing
