#include "sae/data/shard_writer.h"

#include <algorithm>
#include <cstdio>

#include "sae/base/check.h"
#include "sae/base/safetensors.h"
#include "sae/data/raw_file.h"

namespace sae::data {

std::vector<std::string> RowLayout::columns() const {
  std::vector<std::string> names;
  if (has_tokens) names = {"token_ids", "positions"};
  if (has_documents) names.push_back("documents");
  return names;
}

ShardWriter::ShardWriter(Env& env, std::string directory, std::string prefix, RowLayout layout,
                         std::int64_t total_rows, std::int64_t shard_bytes)
    : env_(env),
      directory_(std::move(directory)),
      prefix_(std::move(prefix)),
      layout_(layout),
      rows_per_shard_(std::max<std::int64_t>(
          1, shard_bytes / (layout.activation_bytes() + layout.target_bytes()))),
      rows_left_(total_rows),
      columns_(layout.columns().size()) {}

absl::Status ShardWriter::Add(std::span<const std::byte> record) {
  SAE_CHECK(static_cast<std::int64_t>(record.size()) == layout_.bytes());
  if (shard_rows_left_ == 0) {
    SAE_RETURN_IF_ERROR(BeginShard());
  }
  const auto activations = static_cast<std::size_t>(layout_.activation_bytes());
  SAE_RETURN_IF_ERROR(file_->Append(record.first(activations)));
  const auto targets = static_cast<std::size_t>(layout_.target_bytes());
  if (targets > 0) {
    SAE_RETURN_IF_ERROR(targets_->Append(record.subspan(activations, targets)));
  }
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    const auto value = record.subspan(activations + targets + 4 * c, 4);
    columns_[c].insert(columns_[c].end(), value.begin(), value.end());
  }
  --rows_left_;
  return --shard_rows_left_ == 0 ? EndShard() : absl::OkStatus();
}

absl::Status ShardWriter::BeginShard() {
  SAE_CHECK(rows_left_ > 0);
  shard_rows_left_ = std::min(rows_per_shard_, rows_left_);
  char name[96];
  std::snprintf(name, sizeof name, "%s-%05zu.safetensors", prefix_.c_str(), shards_.size());
  shards_.push_back({name, shard_rows_left_, 0, ""});
  SAE_ASSIGN_OR_RETURN(file_, HashedFile::Create(env_, directory_ + "/" + name));
  std::vector<TensorToWrite> tensors = {
      {"activations", layout_.dtype, {shard_rows_left_, layout_.d}, {}}};
  if (layout_.target_d > 0) {
    tensors.push_back({"targets", layout_.dtype, {shard_rows_left_, layout_.target_d}, {}});
    SAE_ASSIGN_OR_RETURN(targets_, HashedFile::Create(env_, TargetsPath()));
  }
  for (const auto& column : layout_.columns())
    tensors.push_back({column, DType::kI32, {shard_rows_left_}, {}});
  SAE_ASSIGN_OR_RETURN(const std::string header, SafetensorsHeader(tensors));
  return file_->Append(AsBytes(header.data(), header.size()));
}

absl::Status ShardWriter::AppendTargets() {
  SAE_RETURN_IF_ERROR(targets_->Finish());
  targets_.reset();
  SAE_ASSIGN_OR_RETURN(const RawFile file, RawFile::Open(TargetsPath()));
  constexpr std::int64_t kBlock = std::int64_t{1} << 20;
  std::vector<std::byte> block;
  for (std::int64_t at = 0; at < file.size(); at += kBlock) {
    block.resize(static_cast<std::size_t>(std::min(kBlock, file.size() - at)));
    SAE_RETURN_IF_ERROR(file.ReadAt(at, block));
    SAE_RETURN_IF_ERROR(file_->Append(block));
  }
  return env_.RemoveAll(TargetsPath());
}

absl::Status ShardWriter::EndShard() {
  if (targets_ != nullptr) {
    SAE_RETURN_IF_ERROR(AppendTargets());
  }
  for (auto& column : columns_) {
    SAE_RETURN_IF_ERROR(file_->Append(column));
    column.clear();
  }
  SAE_RETURN_IF_ERROR(file_->Finish());
  shards_.back().bytes = file_->bytes();
  shards_.back().hash = file_->hash();
  file_.reset();
  return absl::OkStatus();
}

}  // namespace sae::data
