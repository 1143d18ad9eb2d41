#include "worker/trainer/launch.h"

namespace saeloom::trainer {

absl::StatusOr<std::unique_ptr<Launch>> JoinMpi(absl::Duration) {
  return absl::UnimplementedError("started by an MPI launcher, but built without MPI: configure with -DSAE_WITH_MPI=ON");
}

}  // namespace saeloom::trainer
