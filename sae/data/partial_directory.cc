#include "sae/data/partial_directory.h"

#include <cerrno>
#include <fcntl.h>
#include <filesystem>
#include <sys/file.h>
#include <unistd.h>

namespace sae::data {
namespace fs = std::filesystem;

absl::StatusOr<std::unique_ptr<PartialDirectory>> PartialDirectory::Create(const std::string& name,
                                                                           Env& env) {
  if (name.empty()) return absl::InvalidArgumentError("the output directory has no name");
  std::string clean = fs::path(name).lexically_normal().string();
  while (clean.size() > 1 && clean.back() == '/') clean.pop_back();
  if (env.Exists(clean)) {
    const auto names = env.List(clean);
    if (!names.ok() || !names->empty()) {
      return absl::AlreadyExistsError(
          absl::StrCat(clean, " is there already: remove it, or choose another name"));
    }
  }
  std::unique_ptr<PartialDirectory> partial(new PartialDirectory(clean, env));
  SAE_RETURN_IF_ERROR(env.MakeDirectories(partial->path_));
  const int fd = ::open(partial->lock_path().c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoToStatus(errno, absl::StrCat("cannot open ", partial->lock_path()));
  if (::flock(fd, LOCK_EX | LOCK_NB) != 0) {
    ::close(fd);
    return absl::FailedPreconditionError(
        absl::StrCat(partial->path_,
                     " is being written by another process: wait for it, or choose another name"));
  }
  partial->lock_fd_ = fd;
  SAE_ASSIGN_OR_RETURN(const auto stale, env.List(partial->path_));
  for (const auto& file : stale) {
    if (file == ".lock") continue;
    SAE_RETURN_IF_ERROR(env.RemoveAll(partial->path_ + "/" + file));
  }
  return partial;
}

PartialDirectory::~PartialDirectory() {
  if (lock_fd_ < 0) return;
  env_.RemoveAll(path_).IgnoreError();
  ::close(lock_fd_);
}

absl::Status PartialDirectory::Commit() {
  SAE_RETURN_IF_ERROR(env_.RemoveAll(lock_path()));
  SAE_RETURN_IF_ERROR(env_.SyncDirectory(path_));
  SAE_RETURN_IF_ERROR(env_.Rename(path_, name_));
  ::close(lock_fd_);
  lock_fd_ = -1;
  const std::string parent = fs::path(name_).parent_path().string();
  return env_.SyncDirectory(parent.empty() ? "." : parent);
}

}  // namespace sae::data
