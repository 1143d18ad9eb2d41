#include <mpi.h>

#include <utility>

#include "worker/trainer/launch.h"

namespace saeloom::trainer {
namespace {

class UnderMpi final : public Launch {
 public:
  explicit UnderMpi(std::unique_ptr<sae::comm::Communicator> world) : world_(std::move(world)) {}
  sae::comm::Communicator& communicator() override { return *world_; }
  void Finalize() override {
    world_.reset();
    MPI_Finalize();
  }

 private:
  std::unique_ptr<sae::comm::Communicator> world_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Launch>> JoinMpi(absl::Duration deadline) {
  int provided = MPI_THREAD_SINGLE;
  if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &provided) != MPI_SUCCESS) {
    return absl::InternalError("MPI_Init_thread failed: is the launcher's MPI the one this program was built with?");
  }
  SAE_ASSIGN_OR_RETURN(auto world, sae::comm::CreateMpi(deadline));
  return std::unique_ptr<Launch>(std::make_unique<UnderMpi>(std::move(world)));
}

}  // namespace saeloom::trainer
