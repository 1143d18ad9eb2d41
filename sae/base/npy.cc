#include "sae/base/npy.h"

#include <cerrno>
#include <fcntl.h>
#include <optional>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "absl/strings/numbers.h"

namespace sae {
namespace {

constexpr char kMagic[] = "\x93NUMPY";
constexpr std::size_t kMagicBytes = 6;

/// What follows "'key':" in the header's dict, or "" where the key is not there.
std::string After(const std::string& header, const std::string& key) {
  auto at = header.find("'" + key + "'");
  if (at == std::string::npos) return "";
  at = header.find(':', at);
  return at == std::string::npos ? "" : header.substr(header.find_first_not_of(' ', at + 1));
}

std::optional<DType> ParseDescr(const std::string& descr) {
  if (descr.rfind("'<f4'", 0) == 0) return DType::kF32;
  if (descr.rfind("'<f8'", 0) == 0) return DType::kF64;
  if (descr.rfind("'<f2'", 0) == 0) return DType::kF16;
  if (descr.rfind("'<i4'", 0) == 0) return DType::kI32;
  if (descr.rfind("'<i8'", 0) == 0) return DType::kI64;
  if (descr.rfind("'|u1'", 0) == 0) return DType::kU8;
  return std::nullopt;
}

std::optional<std::vector<std::int64_t>> ParseShape(const std::string& text) {
  const auto end = text.find(')');
  if (text.empty() || text[0] != '(' || end == std::string::npos) return std::nullopt;
  std::vector<std::int64_t> shape;
  std::size_t begin = 1;
  while (begin < end) {
    const std::size_t comma = std::min(text.find(',', begin), end);
    const std::string part = text.substr(begin, comma - begin);
    std::int64_t size = 0;
    if (absl::SimpleAtoi(ToAbsl(part), &size)) {
      if (size < 0) return std::nullopt;
      shape.push_back(size);
    } else if (part.find_first_not_of(' ') != std::string::npos) {
      return std::nullopt;
    }
    begin = comma + 1;
  }
  return shape;
}

}  // namespace

absl::StatusOr<std::unique_ptr<NpyReader>> NpyReader::Open(const std::string& path) {
  std::unique_ptr<NpyReader> reader(new NpyReader);
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat st {};
  const bool is_file = ::fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  void* map = MAP_FAILED;
  if (is_file && st.st_size > 0)
    map = ::mmap(nullptr, static_cast<std::size_t>(st.st_size), PROT_READ, MAP_SHARED, fd, 0);
  const int error = errno;
  ::close(fd);
  if (!is_file || st.st_size == 0)
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a .npy file"));
  if (map == MAP_FAILED) return ErrnoToStatus(error, absl::StrCat("cannot map ", path));
  reader->map_ = map;
  reader->map_bytes_ = static_cast<std::size_t>(st.st_size);
  SAE_RETURN_IF_ERROR(reader->Parse(path));
  return reader;
}

absl::Status NpyReader::Parse(const std::string& path) {
  const char* bytes = static_cast<const char*>(map_);
  if (map_bytes_ < 12 || std::memcmp(bytes, kMagic, kMagicBytes) != 0) {
    return absl::InvalidArgumentError(absl::StrCat(path, " is not a .npy file"));
  }
  const bool short_length = bytes[6] == 1;  // format 1.0 has a 2-byte header length, later ones 4
  std::uint32_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes + 8, short_length ? 2 : 4);
  const std::size_t start = (short_length ? 10U : 12U) + std::size_t{header_bytes};
  if (start > map_bytes_) {
    return absl::DataLossError(absl::StrCat(path, ": cut short: its header ends at offset ", start,
                                            ", the file has ", map_bytes_, " bytes"));
  }
  const std::string header(bytes + (short_length ? 10 : 12), header_bytes);
  const auto dtype = ParseDescr(After(header, "descr"));
  const auto shape = ParseShape(After(header, "shape"));
  if (!dtype || !shape) {
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": its header says ", header.substr(0, 120),
        "; read are little-endian f4, f8, f2, i4, i8 and u1: convert with .astype('<f4')"));
  }
  if (After(header, "fortran_order").rfind("False", 0) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path, " is in Fortran order: save numpy.ascontiguousarray(x)"));
  }
  std::int64_t need = SizeOf(*dtype);
  for (const std::int64_t size : *shape) {
    if (__builtin_mul_overflow(need, size, &need)) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": its shape overflows"));
    }
  }
  if (map_bytes_ - start < static_cast<std::size_t>(need)) {
    return absl::DataLossError(absl::StrCat(path, ": cut short: its values need ", need,
                                            " bytes from offset ", start, ", the file has ",
                                            map_bytes_, " bytes"));
  }
  view_ = TensorView{*dtype,
                     *shape,
                     {static_cast<const std::byte*>(map_) + start, static_cast<std::size_t>(need)},
                     static_cast<std::int64_t>(start)};
  return absl::OkStatus();
}

NpyReader::~NpyReader() {
  if (map_ != nullptr) ::munmap(map_, map_bytes_);
}

}  // namespace sae
