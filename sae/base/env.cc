#include "sae/base/env.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace sae {
namespace {
namespace fs = std::filesystem;

class PosixFile final : public WritableFile {
 public:
  PosixFile(int fd, std::string path) : fd_(fd), path_(std::move(path)) {}
  ~PosixFile() override {
    if (fd_ >= 0) ::close(fd_);
  }
  absl::Status Append(std::span<const std::byte> data) override {
    while (!data.empty()) {
      const ssize_t n = ::write(fd_, data.data(), data.size());
      if (n < 0) {
        if (errno == EINTR) continue;
        return ErrnoToStatus(errno, absl::StrCat("cannot write ", path_));
      }
      data = data.subspan(static_cast<std::size_t>(n));
    }
    return absl::OkStatus();
  }
  absl::Status Sync() override {
    return ::fsync(fd_) == 0 ? absl::OkStatus()
                             : ErrnoToStatus(errno, absl::StrCat("cannot sync ", path_));
  }
  absl::Status Close() override {
    const int rc = ::close(fd_);
    fd_ = -1;
    return rc == 0 ? absl::OkStatus() : ErrnoToStatus(errno, absl::StrCat("cannot close ", path_));
  }

 private:
  int fd_;
  std::string path_;
};

absl::StatusOr<std::unique_ptr<WritableFile>> Open(const std::string& path, int flags) {
  const int fd = ::open(path.c_str(), flags | O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  if (fd < 0) return ErrnoToStatus(errno, absl::StrCat("cannot open ", path, " for writing"));
  return std::make_unique<PosixFile>(fd, path);
}

absl::Status FromErrorCode(const std::error_code& ec, const std::string& what) {
  return ec ? ErrnoToStatus(ec.value(), what) : absl::OkStatus();
}

class PosixEnv final : public Env {
 public:
  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override {
    return Open(path, O_TRUNC);
  }
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForAppend(const std::string& path) override {
    return Open(path, O_APPEND);
  }
  absl::StatusOr<std::string> Read(const std::string& path) override {
    std::error_code ec;
    if (fs::is_directory(path, ec)) {
      return absl::InvalidArgumentError(absl::StrCat("cannot read ", path, ": it is a directory"));
    }
    errno = 0;
    std::ifstream in(path, std::ios::binary);
    if (!in) return ErrnoToStatus(errno == 0 ? ENOENT : errno, absl::StrCat("cannot read ", path));
    std::ostringstream out;
    out << in.rdbuf();
    return std::move(out).str();
  }
  absl::Status Rename(const std::string& from, const std::string& to) override {
    return ::rename(from.c_str(), to.c_str()) == 0
               ? absl::OkStatus()
               : ErrnoToStatus(errno, absl::StrCat("cannot rename ", from, " to ", to));
  }
  absl::Status SyncDirectory(const std::string& path) override {
    const int fd = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return ErrnoToStatus(errno, absl::StrCat("cannot open directory ", path));
    const int rc = ::fsync(fd);
    const int error = errno;
    ::close(fd);
    return rc == 0 ? absl::OkStatus() : ErrnoToStatus(error, absl::StrCat("cannot sync ", path));
  }
  absl::Status MakeDirectories(const std::string& path) override {
    std::error_code ec;
    fs::create_directories(path, ec);
    return FromErrorCode(ec, absl::StrCat("cannot create directory ", path));
  }
  absl::Status RemoveAll(const std::string& path) override {
    std::error_code ec;
    fs::remove_all(path, ec);
    return FromErrorCode(ec, absl::StrCat("cannot remove ", path));
  }
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override {
    std::error_code ec;
    std::vector<std::string> names;
    fs::directory_iterator it(path, ec);
    for (; !ec && it != fs::directory_iterator(); it.increment(ec)) {
      names.push_back(it->path().filename().string());
    }
    SAE_RETURN_IF_ERROR(FromErrorCode(ec, absl::StrCat("cannot list ", path)));
    std::sort(names.begin(), names.end());
    return names;
  }
  bool Exists(const std::string& path) override {
    std::error_code ec;
    return fs::exists(path, ec);
  }
  absl::StatusOr<std::int64_t> FreeBytes(const std::string& path) override {
    std::error_code ec;
    fs::path p = fs::absolute(path, ec);
    while (!fs::exists(p, ec) && p.has_parent_path() && p != p.parent_path()) p = p.parent_path();
    struct statvfs v {};
    if (::statvfs(p.c_str(), &v) != 0) {
      return ErrnoToStatus(errno, absl::StrCat("cannot ask for the free space of ", p.string()));
    }
    return static_cast<std::int64_t>(v.f_bavail) * static_cast<std::int64_t>(v.f_frsize);
  }
};

}  // namespace

Env& RealEnv() {
  static PosixEnv env;
  return env;
}

absl::Status WriteFileAtomically(Env& env, const std::string& path, const std::string& content) {
  const std::string temporary = absl::StrCat(path, ".tmp.", ::getpid());
  const auto write = [&]() -> absl::Status {
    SAE_ASSIGN_OR_RETURN(auto file, env.Create(temporary));
    SAE_RETURN_IF_ERROR(file->Append(content));
    SAE_RETURN_IF_ERROR(file->Sync());
    SAE_RETURN_IF_ERROR(file->Close());
    SAE_RETURN_IF_ERROR(env.Rename(temporary, path));
    const std::string parent = fs::path(path).parent_path().string();
    return env.SyncDirectory(parent.empty() ? "." : parent);
  };
  absl::Status status = write();
  if (!status.ok()) env.RemoveAll(temporary).IgnoreError();
  return status;
}

absl::Status RequireFreeBytes(Env& env, const std::string& path, std::int64_t bytes,
                              const std::string& what) {
  SAE_ASSIGN_OR_RETURN(const std::int64_t free, env.FreeBytes(path));
  if (free >= bytes) return absl::OkStatus();
  return absl::ResourceExhaustedError(
      absl::StrCat(what, " needs ", bytes >> 20, " MiB in ", path, ", only ", free >> 20,
                   " MiB are free there: make room, or choose another folder"));
}

}  // namespace sae
