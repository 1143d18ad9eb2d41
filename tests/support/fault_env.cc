#include "tests/support/fault_env.h"

#include <algorithm>
#include <filesystem>
#include <utility>

namespace sae::testing {
namespace fs = std::filesystem;

class FaultFile final : public WritableFile {
 public:
  FaultFile(FaultEnv& env, std::string path, std::unique_ptr<WritableFile> file)
      : env_(env), path_(std::move(path)), file_(std::move(file)) {}

  absl::Status Append(std::span<const std::byte> data) override {
    const absl::Status status = env_.Count("append to " + path_);
    if (!status.ok()) data = data.first(data.size() / 2);
    const absl::Status written = file_->Append(data);
    return status.ok() ? written : status;
  }
  absl::Status Sync() override {
    SAE_RETURN_IF_ERROR(env_.Count("sync " + path_));
    // The disk below need not be asked: what is durable is decided here.
    if (env_.base_.Exists(path_)) env_.synced_bytes_[path_] = static_cast<std::int64_t>(fs::file_size(path_));
    return absl::OkStatus();
  }
  absl::Status Close() override {
    const absl::Status status = env_.Count("close " + path_);
    const absl::Status closed = file_->Close();
    return status.ok() ? closed : status;
  }

 private:
  FaultEnv& env_;
  std::string path_;
  std::unique_ptr<WritableFile> file_;
};

namespace {
std::string ParentOf(const std::string& path) { return fs::path(path).parent_path().string(); }

std::string Moved(const std::string& path, const std::string& from, const std::string& to) {
  if (path == from) return to;
  return path.rfind(from + "/", 0) == 0 ? to + path.substr(from.size()) : path;
}
}  // namespace

absl::Status FaultEnv::Count(const std::string& what) {
  ++calls_;
  if (fail_from_ == 0 || calls_ < fail_from_) return absl::OkStatus();
  if (once_) {
    once_ = false;
    fail_from_ = 0;
    return absl::ResourceExhaustedError("cannot " + what + ": no space left on device");
  }
  return absl::InternalError("cannot " + what + ": the process died");
}

void FaultEnv::Rekey(const std::string& from, const std::string& to) {
  for (Entry& e : journal_) {
    e.path = Moved(e.path, from, to);
    e.from = Moved(e.from, from, to);
  }
  std::map<std::string, std::int64_t> moved;
  for (const auto& [path, bytes] : synced_bytes_) moved[Moved(path, from, to)] = bytes;
  synced_bytes_ = std::move(moved);
}

void FaultEnv::Restart() {
  fail_from_ = 0;
  once_ = false;
}

void FaultEnv::LosePower() {
  for (const auto& [path, bytes] : synced_bytes_) {
    if (fs::exists(path) && static_cast<std::int64_t>(fs::file_size(path)) > bytes) {
      fs::resize_file(path, static_cast<std::uintmax_t>(bytes));
    }
  }
  synced_bytes_.clear();
  while (!journal_.empty()) {
    const Entry entry = journal_.back();
    journal_.pop_back();
    if (!fs::exists(entry.path)) continue;
    if (entry.kind == Kind::kCreated) {
      fs::remove_all(entry.path);
    } else {
      fs::rename(entry.path, entry.from);
      Rekey(entry.path, entry.from);
    }
  }
  Restart();
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultEnv::Create(const std::string& path) {
  SAE_RETURN_IF_ERROR(Count("create " + path));
  const bool existed = base_.Exists(path);
  SAE_ASSIGN_OR_RETURN(auto file, base_.Create(path));
  if (!existed) journal_.push_back({Kind::kCreated, path, ""});
  synced_bytes_[path] = 0;
  return std::make_unique<FaultFile>(*this, path, std::move(file));
}

absl::StatusOr<std::unique_ptr<WritableFile>> FaultEnv::OpenForAppend(const std::string& path) {
  SAE_RETURN_IF_ERROR(Count("open " + path));
  const bool existed = base_.Exists(path);
  SAE_ASSIGN_OR_RETURN(auto file, base_.OpenForAppend(path));
  if (!existed) journal_.push_back({Kind::kCreated, path, ""});
  if (synced_bytes_.find(path) == synced_bytes_.end()) {
    synced_bytes_[path] = static_cast<std::int64_t>(fs::file_size(path));
  }
  return std::make_unique<FaultFile>(*this, path, std::move(file));
}

absl::Status FaultEnv::Rename(const std::string& from, const std::string& to) {
  SAE_RETURN_IF_ERROR(Count("rename " + from));
  SAE_RETURN_IF_ERROR(base_.Rename(from, to));
  Rekey(from, to);
  journal_.push_back({Kind::kRenamed, to, from});
  return absl::OkStatus();
}

absl::Status FaultEnv::SyncDirectory(const std::string& path) {
  SAE_RETURN_IF_ERROR(Count("sync " + path));
  std::erase_if(journal_, [&](const Entry& e) { return ParentOf(e.path) == path; });
  return absl::OkStatus();
}

absl::Status FaultEnv::MakeDirectories(const std::string& path) {
  SAE_RETURN_IF_ERROR(Count("make " + path));
  std::vector<std::string> made;
  for (std::string p = path; !p.empty() && !base_.Exists(p); p = ParentOf(p)) made.push_back(p);
  SAE_RETURN_IF_ERROR(base_.MakeDirectories(path));
  for (auto it = made.rbegin(); it != made.rend(); ++it) journal_.push_back({Kind::kCreated, *it, ""});
  return absl::OkStatus();
}

absl::Status FaultEnv::RemoveAll(const std::string& path) {
  if (!base_.Exists(path)) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(Count("remove " + path));
  SAE_RETURN_IF_ERROR(base_.RemoveAll(path));
  const auto inside = [&](const std::string& p) { return p == path || p.rfind(path + "/", 0) == 0; };
  std::erase_if(journal_, [&](const Entry& e) { return inside(e.path); });
  std::erase_if(synced_bytes_, [&](const auto& f) { return inside(f.first); });
  return absl::OkStatus();
}

absl::StatusOr<std::int64_t> FaultEnv::FreeBytes(const std::string& path) {
  if (free_bytes_ >= 0) return free_bytes_;
  return base_.FreeBytes(path);
}

}  // namespace sae::testing
