#include "sae/data/raw_file.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>
#include <vector>

#include "sae/base/hash.h"

namespace sae::data {

absl::StatusOr<RawFile> RawFile::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat st {};
  if (::fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
    ::close(fd);
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a file"));
  }
  return RawFile(fd, st.st_size, path);
}

RawFile::RawFile(RawFile&& other) noexcept
    : fd_(std::exchange(other.fd_, -1)), size_(other.size_), path_(std::move(other.path_)) {}

RawFile::~RawFile() {
  if (fd_ >= 0) ::close(fd_);
}

absl::Status RawFile::ReadAt(std::int64_t offset, std::span<std::byte> out) const {
  while (!out.empty()) {
    const ssize_t n = ::pread(fd_, out.data(), out.size(), offset);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0)
      return ErrnoToStatus(errno, absl::StrCat("cannot read ", path_, " at offset ", offset));
    if (n == 0) {
      return absl::DataLossError(absl::StrCat(path_, ": cut short: it ends at offset ", offset,
                                              ", ", out.size(), " more bytes were expected"));
    }
    out = out.subspan(static_cast<std::size_t>(n));
    offset += n;
  }
  return absl::OkStatus();
}

absl::StatusOr<std::string> HashFile(const std::string& path) {
  SAE_ASSIGN_OR_RETURN(const RawFile file, RawFile::Open(path));
  Xxh3Stream hash;
  std::vector<std::byte> buffer(std::size_t{4} << 20);
  for (std::int64_t offset = 0; offset < file.size();) {
    const auto n =
        std::min<std::int64_t>(file.size() - offset, static_cast<std::int64_t>(buffer.size()));
    const std::span<std::byte> part(buffer.data(), static_cast<std::size_t>(n));
    SAE_RETURN_IF_ERROR(file.ReadAt(offset, part));
    hash.Update(part);
    offset += n;
  }
  return HashToText(hash.Digest());
}

}  // namespace sae::data
