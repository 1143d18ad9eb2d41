#include "worker/trainer/launch.h"

#include <cstdlib>
#include <initializer_list>
#include <string>
#include <utility>

namespace saeloom::trainer {
namespace {

class Alone final : public Launch {
 public:
  sae::comm::Communicator& communicator() override { return *self_; }
  void Finalize() override {}

 private:
  std::unique_ptr<sae::comm::Communicator> self_ = sae::comm::CreateSelf();
};

int FirstNumber(std::initializer_list<const char*> names, int otherwise) {
  for (const char* name : names) {
    if (const char* value = std::getenv(name); value != nullptr) return std::atoi(value);
  }
  return otherwise;
}

}  // namespace

bool StartedByLauncher() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

int RankFromEnvironment() {
  return FirstNumber({"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}, 0);
}

LocalRanks LocalRanksFromEnvironment() {
  LocalRanks local;
  local.rank = FirstNumber({"OMPI_COMM_WORLD_LOCAL_RANK", "MPI_LOCALRANKID", "SLURM_LOCALID"}, 0);
  // Slurm writes "4(x2),3": the first hosts' number is the one that matters.
  local.size = FirstNumber({"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "SLURM_STEP_TASKS_PER_NODE"}, 1);
  return local;
}

absl::StatusOr<std::unique_ptr<Launch>> Join(absl::Duration deadline) {
  if (StartedByLauncher()) return JoinMpi(deadline);
  return std::unique_ptr<Launch>(std::make_unique<Alone>());
}

}  // namespace saeloom::trainer
