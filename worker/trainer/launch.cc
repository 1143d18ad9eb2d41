#include "worker/trainer/launch.h"

#include <cstdlib>
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

}  // namespace

bool StartedByLauncher() {
  for (const char* name : {"OMPI_COMM_WORLD_SIZE", "PMIX_RANK", "PMI_SIZE", "SLURM_STEP_NUM_TASKS"}) {
    if (std::getenv(name) != nullptr) return true;
  }
  return false;
}

int RankFromEnvironment() {
  for (const char* name : {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK", "SLURM_PROCID"}) {
    if (const char* value = std::getenv(name); value != nullptr) return std::atoi(value);
  }
  return 0;
}

absl::StatusOr<std::unique_ptr<Launch>> Join(absl::Duration deadline) {
  if (StartedByLauncher()) return JoinMpi(deadline);
  return std::unique_ptr<Launch>(std::make_unique<Alone>());
}

}  // namespace saeloom::trainer
