#pragma once
// The per-latent files of a checkpoint: inside this folder only. A file holds a block of
// consecutive global ids, whose rows lie on all ranks. In each wave every rank writes one block:
// the rows come to it tensor by tensor, and go to the file as they come, so that a rank holds two
// copies of one tensor's block and no more. Collective; not thread-safe; borrows all it is given.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sae/base/hash.h"
#include "sae/base/safetensors.h"
#include "sae/checkpoint/layout.h"
#include "sae/checkpoint/manifest.h"
#include "sae/comm/communicator.h"

namespace sae::checkpoint {

class BlockWriter {
 public:
  BlockWriter(Env& env, comm::Communicator& communicator, const model::State& state,
              std::string folder);

  /// Writes and fsyncs this rank's share of the files. The collectives' errors come back; those of
  /// files are in `file_status` (a rank that has one goes on with the exchanges).
  [[nodiscard]] absl::Status Write(absl::Status* file_status);
  /// The entries of all ranks' files, in block order.
  [[nodiscard]] absl::StatusOr<std::vector<FileEntry>> GatherEntries();

 private:
  // A file on its way.
  struct Open {
    Block block;
    std::unique_ptr<WritableFile> file;
    Xxh3Stream hash;
    std::int64_t bytes = 0;
  };
  [[nodiscard]] absl::Status WriteWave(std::int64_t first_block, absl::Status* file_status);
  /// Who sends what in this wave; ids_ of the rows that come here.
  [[nodiscard]] absl::Status ExchangeIds(std::int64_t first_block);
  /// The rows of this rank's block of the wave, by ascending id; empty without a block.
  [[nodiscard]] absl::StatusOr<std::span<const std::byte>> Rows(const model::StateTensor& tensor);
  [[nodiscard]] absl::Status Start(Open* open);
  [[nodiscard]] absl::Status Append(Open* open, std::span<const std::byte> data);
  [[nodiscard]] absl::Status Finish(Open* open);

  Env& env_;
  comm::Communicator& communicator_;
  const model::State& state_;
  const std::string folder_;
  const std::vector<Block> blocks_;
  std::vector<FileEntry> entries_;  // of this rank

  // Of the wave.
  const Block* mine_ = nullptr;
  std::int64_t first_local_ = 0;  // of the rows that this rank sends, which follow each other
  std::vector<std::int64_t> send_rows_, receive_rows_, send_bytes_, receive_bytes_;
  std::vector<std::int32_t> ids_;
  std::vector<std::byte> received_, rows_;
};

}  // namespace sae::checkpoint
