#include "sae/data/hashed_file.h"

namespace sae::data {
namespace {
constexpr std::size_t kBufferBytes = std::size_t{1} << 20;
}

absl::StatusOr<std::unique_ptr<HashedFile>> HashedFile::Create(Env& env, const std::string& path) {
  SAE_ASSIGN_OR_RETURN(auto file, env.Create(path));
  return std::unique_ptr<HashedFile>(new HashedFile(std::move(file)));
}

absl::Status HashedFile::Append(std::span<const std::byte> data) {
  buffer_.insert(buffer_.end(), data.begin(), data.end());
  bytes_ += static_cast<std::int64_t>(data.size());
  return buffer_.size() >= kBufferBytes ? Flush() : absl::OkStatus();
}

absl::Status HashedFile::Flush() {
  hash_.Update(buffer_);
  SAE_RETURN_IF_ERROR(file_->Append(buffer_));
  buffer_.clear();
  return absl::OkStatus();
}

absl::Status HashedFile::Finish() {
  SAE_RETURN_IF_ERROR(Flush());
  SAE_RETURN_IF_ERROR(file_->Sync());
  return file_->Close();
}

}  // namespace sae::data
