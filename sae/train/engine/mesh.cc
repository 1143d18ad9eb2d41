#include "sae/train/engine/mesh.h"

namespace sae::train {

absl::StatusOr<std::unique_ptr<Mesh>> Mesh::Create(comm::Communicator& world,
                                                   std::int64_t replicas) {
  std::unique_ptr<Mesh> mesh(new Mesh(world));
  if (replicas == 1) {
    mesh->replicas_ = comm::CreateSelf();
    return mesh;
  }
  if (replicas < 1 || world.size() % replicas != 0) {
    return absl::InvalidArgumentError(absl::StrCat("mesh: ", replicas, " replicas of ",
                                                   world.size(), " ranks: choose a divisor"));
  }
  const int shards = world.size() / static_cast<int>(replicas);
  const int shard = world.rank() % shards, replica = world.rank() / shards;
  SAE_ASSIGN_OR_RETURN(mesh->shards_, world.Split(replica, shard));
  SAE_ASSIGN_OR_RETURN(mesh->replicas_, world.Split(shard, replica));
  SAE_ASSIGN_OR_RETURN(mesh->owners_, world.Split(0, shard * static_cast<int>(replicas) + replica));
  return mesh;
}

}  // namespace sae::train
