#include "sae/data/shard_writer.h"

#include <algorithm>
#include <cstdio>

#include "sae/base/check.h"
#include "sae/base/safetensors.h"

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
      rows_per_shard_(std::max<std::int64_t>(1, shard_bytes / layout.activation_bytes())),
      rows_left_(total_rows),
      columns_(layout.columns().size()) {}

absl::Status ShardWriter::Add(std::span<const std::byte> record) {
  SAE_CHECK(static_cast<std::int64_t>(record.size()) == layout_.bytes());
  if (shard_rows_left_ == 0) {
    SAE_RETURN_IF_ERROR(BeginShard());
  }
  const auto activations = static_cast<std::size_t>(layout_.activation_bytes());
  SAE_RETURN_IF_ERROR(file_->Append(record.first(activations)));
  for (std::size_t c = 0; c < columns_.size(); ++c) {
    const auto value = record.subspan(activations + 4 * c, 4);
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
  for (const auto& column : layout_.columns())
    tensors.push_back({column, DType::kI32, {shard_rows_left_}, {}});
  SAE_ASSIGN_OR_RETURN(const std::string header, SafetensorsHeader(tensors));
  return file_->Append(AsBytes(header.data(), header.size()));
}

absl::Status ShardWriter::EndShard() {
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
