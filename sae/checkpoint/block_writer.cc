#include "sae/checkpoint/block_writer.h"

#include <algorithm>
#include <cstring>
#include <numeric>
#include <utility>

#include "sae/base/check.h"
#include "sae/checkpoint/checkpoint.h"

namespace sae::checkpoint {
namespace {
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
std::int64_t Sum(const std::vector<std::int64_t>& v) {
  return std::accumulate(v.begin(), v.end(), std::int64_t{0});
}
}  // namespace

BlockWriter::BlockWriter(Env& env, comm::Communicator& communicator, const model::State& state,
                         std::string folder)
    : env_(env),
      communicator_(communicator),
      state_(state),
      folder_(std::move(folder)),
      blocks_(Blocks(state.shard.latents, BlockLatents(state.shard.latents))) {}

absl::Status BlockWriter::Write(absl::Status* file_status) {
  std::int64_t count = state_.shard.count;
  SAE_RETURN_IF_ERROR(communicator_.AllReduceSum(std::span<std::int64_t>(&count, 1)));
  if (count != state_.shard.latents) {
    return absl::InternalError(
        absl::StrCat("the ranks hold ", count, " latents of ", state_.shard.latents));
  }
  for (std::int64_t first = 0; first < static_cast<std::int64_t>(blocks_.size());
       first += communicator_.size())
    SAE_RETURN_IF_ERROR(WriteWave(first, file_status));
  return absl::OkStatus();
}

absl::Status BlockWriter::WriteWave(std::int64_t first_block, absl::Status* file_status) {
  const auto own = Size(first_block + communicator_.rank());
  mine_ = own < blocks_.size() ? &blocks_[own] : nullptr;
  SAE_RETURN_IF_ERROR(ExchangeIds(first_block));
  SAE_CHECK_MSG(mine_ == nullptr || ids_.size() == Size(mine_->rows), "block %zu: %zu rows came",
                own, ids_.size());
  Open open;
  if (mine_ != nullptr && file_status->ok()) {
    open.block = *mine_;
    *file_status = Start(&open);
  }
  for (const model::StateTensor& t : state_.tensors) {
    if (!t.per_latent) continue;
    SAE_ASSIGN_OR_RETURN(const std::span<const std::byte> rows, Rows(t));
    if (open.file != nullptr && file_status->ok()) *file_status = Append(&open, rows);
  }
  if (open.file != nullptr && file_status->ok()) *file_status = Finish(&open);
  return absl::OkStatus();
}

absl::Status BlockWriter::ExchangeIds(std::int64_t first_block) {
  const int ranks = communicator_.size();
  const model::LatentShard& shard = state_.shard;
  send_rows_.assign(Size(ranks), 0);
  receive_rows_.assign(Size(ranks), 0);
  first_local_ = shard.LocalBelow(blocks_[Size(first_block)].first);
  std::vector<std::int32_t> own;
  for (int r = 0; r < ranks && Size(first_block + r) < blocks_.size(); ++r) {
    const Block& block = blocks_[Size(first_block + r)];
    const std::int64_t begin = shard.LocalBelow(block.first);
    const std::int64_t end = shard.LocalBelow(block.first + block.rows);
    send_rows_[Size(r)] = end - begin;
    for (std::int64_t i = begin; i < end; ++i)
      own.push_back(static_cast<std::int32_t>(shard.Global(i)));
  }
  SAE_RETURN_IF_ERROR(
      communicator_.AllToAll(send_rows_.data(), receive_rows_.data(), 1, DType::kI64));
  ids_.resize(Size(Sum(receive_rows_)));
  return communicator_.AllToAllV(own.data(), send_rows_, ids_.data(), receive_rows_, DType::kI32);
}

absl::StatusOr<std::span<const std::byte>> BlockWriter::Rows(const model::StateTensor& tensor) {
  const std::int64_t row = RowBytes(tensor.dtype, tensor.shape);
  const auto* send = static_cast<const std::byte*>(tensor.data) + first_local_ * row;
  // One rank has them in order already.
  if (communicator_.size() == 1)
    return std::span<const std::byte>(send, Size(Sum(send_rows_) * row));
  send_bytes_ = send_rows_;
  receive_bytes_ = receive_rows_;
  for (auto* v : {&send_bytes_, &receive_bytes_}) {
    for (std::int64_t& n : *v) n *= row;
  }
  received_.resize(Size(Sum(receive_bytes_)));
  SAE_RETURN_IF_ERROR(communicator_.AllToAllV(send, send_bytes_, received_.data(), receive_bytes_,
                                              DType::kU8));
  rows_.resize(received_.size());
  for (std::size_t i = 0; i < ids_.size(); ++i) {
    const std::int64_t to = ids_[i] - mine_->first;
    SAE_CHECK_MSG(to >= 0 && to < mine_->rows, "latent %d is not of block %ld", ids_[i],
                  static_cast<long>(mine_->index));
    std::memcpy(rows_.data() + to * row, received_.data() + i * Size(row), Size(row));
  }
  return std::span<const std::byte>(rows_);
}

absl::Status BlockWriter::Start(Open* open) {
  std::vector<TensorToWrite> tensors;
  for (const model::StateTensor& t : state_.tensors) {
    if (!t.per_latent) continue;
    std::vector<std::int64_t> shape = t.shape;
    shape[0] = open->block.rows;
    tensors.push_back({t.name, t.dtype, std::move(shape), {}});
  }
  SAE_ASSIGN_OR_RETURN(const std::string header, SafetensorsHeader(tensors));
  SAE_ASSIGN_OR_RETURN(open->file, env_.Create(folder_ + "/" + BlockName(open->block.index)));
  return Append(open, AsBytes(header.data(), header.size()));
}

absl::Status BlockWriter::Append(Open* open, std::span<const std::byte> data) {
  open->hash.Update(data);
  open->bytes += static_cast<std::int64_t>(data.size());
  return open->file->Append(data);
}

absl::Status BlockWriter::Finish(Open* open) {
  SAE_RETURN_IF_ERROR(open->file->Sync());
  SAE_RETURN_IF_ERROR(open->file->Close());
  entries_.push_back({BlockName(open->block.index), open->bytes, HashToText(open->hash.Digest()),
                      open->block.first, open->block.rows});
  return absl::OkStatus();
}

// Names follow from the place; hash and size are what travels.
absl::StatusOr<std::vector<FileEntry>> BlockWriter::GatherEntries() {
  const std::size_t ranks = Size(communicator_.size());
  std::vector<std::int64_t> mine, counts(ranks, 0), places(ranks, 0);
  for (const FileEntry& e : entries_) {
    mine.push_back(static_cast<std::int64_t>(
        std::stoull(e.hash.substr(e.hash.find(':') + 1), nullptr, 16)));
    mine.push_back(e.bytes);
  }
  for (const Block& b : blocks_) counts[Size(b.index) % ranks] += 2;
  std::partial_sum(counts.begin(), counts.end() - 1, places.begin() + 1);
  std::vector<std::int64_t> all(2 * blocks_.size());
  SAE_RETURN_IF_ERROR(communicator_.AllGatherV(mine.data(), all.data(), counts, DType::kI64));
  std::vector<FileEntry> out;
  for (const Block& b : blocks_) {
    const std::size_t i = Size(places[Size(b.index) % ranks]) + 2 * (Size(b.index) / ranks);
    out.push_back({BlockName(b.index), all[i + 1],
                   HashToText(static_cast<std::uint64_t>(all[i])), b.first, b.rows});
  }
  return out;
}

}  // namespace sae::checkpoint
