#include "client/cli/private_file.h"

#include <cerrno>
#include <cstdlib>
#include <fcntl.h>
#include <filesystem>
#include <sys/stat.h>
#include <unistd.h>

namespace sae::cli {
namespace {

absl::Status MakePrivateFolders(const std::filesystem::path& folder) {
  if (folder.empty()) return absl::OkStatus();
  std::error_code ignored;
  if (std::filesystem::is_directory(folder, ignored)) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(MakePrivateFolders(folder.parent_path()));
  if (::mkdir(folder.c_str(), 0700) == 0 || errno == EEXIST) return absl::OkStatus();
  return ErrnoToStatus(errno, folder.string());
}

absl::Status WriteAll(int fd, const std::string& content, const std::string& path) {
  for (std::size_t at = 0; at < content.size();) {
    const ssize_t n = ::write(fd, content.data() + at, content.size() - at);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return ErrnoToStatus(errno, path);
    at += static_cast<std::size_t>(n);
  }
  return ::fsync(fd) == 0 ? absl::OkStatus() : ErrnoToStatus(errno, path);
}

}  // namespace

absl::Status WritePrivateFile(const std::string& path, const std::string& content) {
  SAE_RETURN_IF_ERROR(MakePrivateFolders(std::filesystem::path(path).parent_path()));
  std::string temporary = path + ".XXXXXX";
  const int fd = ::mkostemp(temporary.data(), O_CLOEXEC);  // its mode is 0600
  if (fd < 0) return ErrnoToStatus(errno, temporary);
  absl::Status status = WriteAll(fd, content, temporary);
  if (::close(fd) != 0 && status.ok()) status = ErrnoToStatus(errno, temporary);
  if (status.ok() && ::rename(temporary.c_str(), path.c_str()) != 0)
    status = ErrnoToStatus(errno, path);
  if (!status.ok()) ::unlink(temporary.c_str());
  return status;
}

}  // namespace sae::cli
