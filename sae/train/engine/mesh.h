#pragma once
// The ranks of one trial as D replicas x L latent shards. Rank p is shard p mod L of replica p div
// L: the shards of a replica, which exchange something for every token, are neighbours. Replicas
// read different rows of a batch and hold the same parameters; of the latents of a shard, replica r
// owns the r-th of D equal parts, and alone keeps their moments. Made once, by all ranks together;
// borrows the world. Not thread-safe. Errors: those of Communicator::Split; INVALID_ARGUMENT for a
// D that does not divide the ranks. Source: spec performance.md (f).

#include <cstdint>
#include <memory>

#include "sae/comm/communicator.h"

namespace sae::train {

class Mesh {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Mesh>> Create(comm::Communicator& world,
                                                                    std::int64_t replicas);

  comm::Communicator& world() const { return world_; }
  /// The ranks of this replica; rank() is the shard.
  comm::Communicator& shards() const { return shards_ == nullptr ? world_ : *shards_; }
  /// The ranks that hold the same latents; rank() is the replica.
  comm::Communicator& replicas() const { return *replicas_; }
  /// What the collectives that follow are for, in the world's traffic.
  void SetPurpose(const char* label) const {
    for (comm::Communicator* c : {&world(), &shards(), &replicas()}) c->SetPurpose(label);
  }
  /// All ranks in the order of the latents they own.
  comm::Communicator& owners() const { return owners_ == nullptr ? world_ : *owners_; }

 private:
  explicit Mesh(comm::Communicator& world) : world_(world) {}

  comm::Communicator& world_;
  std::unique_ptr<comm::Communicator> shards_, replicas_, owners_;
};

}  // namespace sae::train
