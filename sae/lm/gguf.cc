#include "sae/lm/gguf.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <limits>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

#include "absl/strings/str_join.h"

namespace sae::lm {
namespace {

constexpr const char* kTypeNames[] = {"UINT8",  "INT8",    "UINT16", "INT16",  "UINT32",
                                      "INT32",  "FLOAT32", "BOOL",   "STRING", "ARRAY",
                                      "UINT64", "INT64",   "FLOAT64"};
constexpr std::uint32_t kTypeCount = 13;
// More dimensions than ggml allows, or a size no machine can hold, is a header that lies.
constexpr std::uint32_t kMaxDimensions = 4;
constexpr std::int64_t kMaxElements = std::int64_t{1} << 48;

}  // namespace

std::string GgufValueTypeName(GgufValueType type) {
  const auto number = static_cast<std::uint32_t>(type);
  return number < kTypeCount ? kTypeNames[number] : "";
}

std::int64_t GgufTensor::elements() const {
  std::int64_t n = 1;
  for (const std::int64_t d : dimensions) n *= d;
  return n;
}

// Reads the header in order; every read is checked against the end of the file.
class GgufCursor {
 public:
  GgufCursor(std::span<const std::byte> file, const std::string& path) : file_(file), path_(path) {}
  std::size_t offset() const { return offset_; }
  std::size_t left() const { return file_.size() - offset_; }

  absl::Status Truncated(const std::string& what, std::uint64_t bytes) const {
    return absl::DataLossError(absl::StrCat(path_, ": ", what, " at offset ", offset_, " takes ",
                                            bytes, " bytes, the file has ", left(),
                                            " left: it is cut short or damaged; fetch it again"));
  }

  template <class T>
  absl::StatusOr<T> Number(const char* what) {
    if (left() < sizeof(T)) return Truncated(what, sizeof(T));
    T value;
    std::memcpy(&value, file_.data() + offset_, sizeof(T));
    offset_ += sizeof(T);
    return value;
  }

  absl::StatusOr<std::string> Text(const char* what) {
    SAE_ASSIGN_OR_RETURN(const std::uint64_t length, Number<std::uint64_t>(what));
    if (length > left()) return Truncated(what, length);
    std::string text(reinterpret_cast<const char*>(file_.data() + offset_),
                     static_cast<std::size_t>(length));
    offset_ += static_cast<std::size_t>(length);
    return text;
  }

  absl::StatusOr<GgufValue> Value() {
    SAE_ASSIGN_OR_RETURN(const GgufValueType type, Type());
    GgufValue out;
    out.type = type;
    if (type != GgufValueType::kArray) {
      SAE_RETURN_IF_ERROR(Scalar(type, out.value));
      return out;
    }
    SAE_ASSIGN_OR_RETURN(out.element_type, Type());
    SAE_ASSIGN_OR_RETURN(const std::uint64_t count, Number<std::uint64_t>("array length"));
    if (out.element_type == GgufValueType::kArray) {
      return absl::InvalidArgumentError(
          absl::StrCat(path_, ": arrays of arrays are not supported"));
    }
    SAE_RETURN_IF_ERROR(Array(out.element_type, count, out.value));
    return out;
  }

 private:
  using Any = decltype(GgufValue::value);

  absl::StatusOr<GgufValueType> Type() {
    SAE_ASSIGN_OR_RETURN(const std::uint32_t number, Number<std::uint32_t>("value type"));
    if (number >= kTypeCount) {
      return absl::DataLossError(
          absl::StrCat(path_, ": unknown metadata type ", number, " at offset ", offset_ - 4));
    }
    return static_cast<GgufValueType>(number);
  }

  template <class T, class Wide>
  absl::Status Take(Any& out) {
    SAE_ASSIGN_OR_RETURN(const T value, Number<T>("metadata value"));
    out = static_cast<Wide>(value);
    return absl::OkStatus();
  }

  absl::Status Scalar(GgufValueType type, Any& out) {
    switch (type) {
      case GgufValueType::kUint8:
        return Take<std::uint8_t, std::uint64_t>(out);
      case GgufValueType::kUint16:
        return Take<std::uint16_t, std::uint64_t>(out);
      case GgufValueType::kUint32:
        return Take<std::uint32_t, std::uint64_t>(out);
      case GgufValueType::kUint64:
        return Take<std::uint64_t, std::uint64_t>(out);
      case GgufValueType::kInt8:
        return Take<std::int8_t, std::int64_t>(out);
      case GgufValueType::kInt16:
        return Take<std::int16_t, std::int64_t>(out);
      case GgufValueType::kInt32:
        return Take<std::int32_t, std::int64_t>(out);
      case GgufValueType::kInt64:
        return Take<std::int64_t, std::int64_t>(out);
      case GgufValueType::kFloat32:
        return Take<float, double>(out);
      case GgufValueType::kFloat64:
        return Take<double, double>(out);
      case GgufValueType::kBool: {
        SAE_ASSIGN_OR_RETURN(const std::uint8_t value, Number<std::uint8_t>("metadata value"));
        out = value != 0;
        return absl::OkStatus();
      }
      case GgufValueType::kString: {
        SAE_ASSIGN_OR_RETURN(out, Text("metadata string"));
        return absl::OkStatus();
      }
      case GgufValueType::kArray:
        break;
    }
    return absl::InternalError("arrays are read by Array()");
  }

  template <class Wide>
  absl::Status Fill(GgufValueType type, std::uint64_t count, Any& out) {
    std::vector<Wide> values;
    values.reserve(static_cast<std::size_t>(count));
    Any one;
    for (std::uint64_t i = 0; i < count; ++i) {
      SAE_RETURN_IF_ERROR(Scalar(type, one));
      values.push_back(std::get<Wide>(std::move(one)));
    }
    out = std::move(values);
    return absl::OkStatus();
  }

  absl::Status Array(GgufValueType type, std::uint64_t count, Any& out) {
    // Every element takes at least a byte (a string 8), so a count beyond that is refused before
    // memory is reserved for it.
    const std::uint64_t least = type == GgufValueType::kString ? 8 : 1;
    if (count > left() / least) return Truncated("array", count);
    switch (type) {
      case GgufValueType::kUint8:
      case GgufValueType::kUint16:
      case GgufValueType::kUint32:
      case GgufValueType::kUint64:
        return Fill<std::uint64_t>(type, count, out);
      case GgufValueType::kBool: {
        std::vector<std::uint64_t> values;
        for (std::uint64_t i = 0; i < count; ++i) {
          SAE_ASSIGN_OR_RETURN(const std::uint8_t value, Number<std::uint8_t>("array of bool"));
          values.push_back(value != 0);
        }
        out = std::move(values);
        return absl::OkStatus();
      }
      case GgufValueType::kFloat32:
      case GgufValueType::kFloat64:
        return Fill<double>(type, count, out);
      case GgufValueType::kString:
        return Fill<std::string>(type, count, out);
      default:
        return Fill<std::int64_t>(type, count, out);
    }
  }

  std::span<const std::byte> file_;
  const std::string& path_;
  std::size_t offset_ = 0;
};

absl::StatusOr<std::unique_ptr<GgufReader>> GgufReader::Open(const std::string& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoToStatus(errno, absl::StrCat("cannot open model ", path));
  struct stat info = {};
  void* map = MAP_FAILED;
  int error = 0;
  if (::fstat(fd, &info) != 0) {
    error = errno;
  } else if (!S_ISREG(info.st_mode) || info.st_size == 0) {
    ::close(fd);
    return absl::InvalidArgumentError(absl::StrCat(
        path, ": not a GGUF file: ", S_ISREG(info.st_mode) ? "empty" : "not a regular file"));
  } else if (map = ::mmap(nullptr, static_cast<std::size_t>(info.st_size), PROT_READ, MAP_PRIVATE,
                          fd, 0);
             map == MAP_FAILED) {
    error = errno;
  }
  ::close(fd);
  if (error != 0) return ErrnoToStatus(error, absl::StrCat("cannot read model ", path));
  std::unique_ptr<GgufReader> reader(new GgufReader);
  reader->path_ = path;
  reader->file_ = {static_cast<const std::byte*>(map), static_cast<std::size_t>(info.st_size)};
  SAE_RETURN_IF_ERROR(reader->Parse());
  return reader;
}

GgufReader::~GgufReader() {
  if (!file_.empty()) ::munmap(const_cast<std::byte*>(file_.data()), file_.size());
}

absl::Status GgufReader::Parse() {
  GgufCursor cursor(file_, path_);
  if (file_.size() < 4 || std::memcmp(file_.data(), "GGUF", 4) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": not a GGUF file: it does not begin with \"GGUF\""));
  }
  SAE_ASSIGN_OR_RETURN([[maybe_unused]] const auto magic, cursor.Number<std::uint32_t>("magic"));
  SAE_ASSIGN_OR_RETURN(version_, cursor.Number<std::uint32_t>("version"));
  if (version_ != 2 && version_ != 3) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": GGUF version ", version_,
                     " is not supported (2 and 3 are; big-endian files are not)"));
  }
  SAE_ASSIGN_OR_RETURN(const auto tensor_count, cursor.Number<std::uint64_t>("tensor count"));
  SAE_ASSIGN_OR_RETURN(const auto key_count, cursor.Number<std::uint64_t>("key count"));
  for (std::uint64_t i = 0; i < key_count; ++i) {
    SAE_ASSIGN_OR_RETURN(std::string key, cursor.Text("metadata key"));
    SAE_ASSIGN_OR_RETURN(GgufValue value, cursor.Value());
    if (!metadata_.emplace(key, std::move(value)).second) {
      return absl::DataLossError(absl::StrCat(path_, ": metadata key ", key, " appears twice"));
    }
  }
  if (Has("general.alignment")) {
    SAE_ASSIGN_OR_RETURN(alignment_, Integer("general.alignment"));
    if (alignment_ < 1 || alignment_ > (1 << 20) || (alignment_ & (alignment_ - 1)) != 0) {
      return absl::DataLossError(absl::StrCat(path_, ": general.alignment is ", alignment_,
                                              ", not a power of two up to 1 MiB"));
    }
  }
  return ParseTensors(cursor, tensor_count);
}

absl::Status GgufReader::ParseTensors(GgufCursor& cursor, std::uint64_t count) {
  std::vector<std::uint64_t> offsets;
  for (std::uint64_t i = 0; i < count; ++i) {
    GgufTensor tensor;
    SAE_ASSIGN_OR_RETURN(tensor.name, cursor.Text("tensor name"));
    SAE_ASSIGN_OR_RETURN(const auto rank, cursor.Number<std::uint32_t>("tensor rank"));
    if (rank > kMaxDimensions) {
      return absl::DataLossError(
          absl::StrCat(path_, ": tensor ", tensor.name, " has ", rank, " dimensions"));
    }
    std::int64_t elements = 1;
    for (std::uint32_t k = 0; k < rank; ++k) {
      SAE_ASSIGN_OR_RETURN(const auto size, cursor.Number<std::uint64_t>("tensor dimension"));
      if (size == 0 || size > static_cast<std::uint64_t>(kMaxElements / elements)) {
        return absl::DataLossError(
            absl::StrCat(path_, ": tensor ", tensor.name, ": impossible dimension ", size));
      }
      elements *= static_cast<std::int64_t>(size);
      tensor.dimensions.push_back(static_cast<std::int64_t>(size));
    }
    SAE_ASSIGN_OR_RETURN(const auto type, cursor.Number<std::uint32_t>("tensor type"));
    tensor.type = static_cast<GgmlType>(type);
    SAE_ASSIGN_OR_RETURN(const auto offset, cursor.Number<std::uint64_t>("tensor offset"));
    offsets.push_back(offset);
    if (!tensor_index_.emplace(tensor.name, tensors_.size()).second) {
      return absl::DataLossError(absl::StrCat(path_, ": tensor ", tensor.name, " appears twice"));
    }
    tensors_.push_back(std::move(tensor));
  }
  const auto mask = static_cast<std::size_t>(alignment_) - 1;
  const std::size_t begin = (cursor.offset() + mask) & ~mask;
  data_offset_ = static_cast<std::int64_t>(begin);
  for (std::size_t i = 0; i < tensors_.size(); ++i) {
    GgufTensor& tensor = tensors_[i];
    const std::string where = absl::StrCat(path_, ": tensor ", tensor.name);
    if ((offsets[i] & mask) != 0 || offsets[i] > file_.size() ||
        begin + offsets[i] > file_.size()) {
      return absl::DataLossError(absl::StrCat(
          where, " is at data offset ", offsets[i], ", unaligned or beyond the file's ",
          file_.size(), " bytes: it is cut short or damaged; fetch it again"));
    }
    tensor.file_offset = static_cast<std::int64_t>(begin + offsets[i]);
    const GgmlTypeInfo* info = InfoOf(tensor.type);
    if (info == nullptr) continue;
    const std::int64_t row = tensor.dimensions.empty() ? 1 : tensor.dimensions[0];
    if (row % info->block_values != 0) {
      return absl::DataLossError(absl::StrCat(where, " (", info->name, "): rows of ", row,
                                              " values are not whole blocks of ",
                                              info->block_values));
    }
    const auto bytes =
        static_cast<std::size_t>(tensor.elements() / info->block_values * info->block_bytes);
    const auto at = static_cast<std::size_t>(tensor.file_offset);
    if (bytes > file_.size() - at) {
      return absl::DataLossError(absl::StrCat(where, " takes ", bytes, " bytes at offset ", at,
                                              ", the file has ", file_.size() - at,
                                              " left: it is cut short or damaged; fetch it again"));
    }
    tensor.data = file_.subspan(at, bytes);
  }
  return absl::OkStatus();
}

absl::StatusOr<const GgufTensor*> GgufReader::Tensor(const std::string& name) const {
  const auto it = tensor_index_.find(name);
  if (it == tensor_index_.end()) {
    return absl::NotFoundError(
        absl::StrCat(path_, ": no tensor ", name, " among ", tensors_.size()));
  }
  return &tensors_[it->second];
}

absl::StatusOr<std::vector<float>> GgufReader::Floats(
    const std::string& name, const std::vector<std::int64_t>& dimensions) const {
  SAE_ASSIGN_OR_RETURN(const GgufTensor* tensor, Tensor(name));
  if (tensor->dimensions != dimensions) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, ": tensor ", name, " is [", absl::StrJoin(tensor->dimensions, ", "),
                     "], expected [", absl::StrJoin(dimensions, ", "), "]"));
  }
  std::vector<float> out(static_cast<std::size_t>(tensor->elements()));
  SAE_RETURN_IF_ERROR(Annotate(Dequantise(tensor->type, tensor->data, out),
                               absl::StrCat(path_, ": tensor ", name)));
  return out;
}

absl::StatusOr<const GgufValue*> GgufReader::Value(const std::string& key) const {
  const auto it = metadata_.find(key);
  if (it == metadata_.end())
    return absl::NotFoundError(absl::StrCat(path_, ": no metadata key ", key));
  return &it->second;
}

namespace {
absl::Status WrongType(const std::string& path, const std::string& key, const GgufValue& value,
                       const char* want) {
  return absl::InvalidArgumentError(absl::StrCat(
      path, ": metadata key ", key, " is ", GgufValueTypeName(value.type), ", expected ", want));
}
}  // namespace

absl::StatusOr<std::int64_t> GgufReader::Integer(const std::string& key) const {
  SAE_ASSIGN_OR_RETURN(const GgufValue* value, Value(key));
  if (const auto* i = std::get_if<std::int64_t>(&value->value)) return *i;
  const auto* u = std::get_if<std::uint64_t>(&value->value);
  if (u == nullptr || *u > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max())) {
    return WrongType(path_, key, *value, "an integer");
  }
  return static_cast<std::int64_t>(*u);
}

absl::StatusOr<double> GgufReader::Real(const std::string& key) const {
  SAE_ASSIGN_OR_RETURN(const GgufValue* value, Value(key));
  if (const auto* real = std::get_if<double>(&value->value)) return *real;
  return WrongType(path_, key, *value, "a real number");
}

absl::StatusOr<std::string> GgufReader::Text(const std::string& key) const {
  SAE_ASSIGN_OR_RETURN(const GgufValue* value, Value(key));
  if (const auto* text = std::get_if<std::string>(&value->value)) return *text;
  return WrongType(path_, key, *value, "STRING");
}

absl::StatusOr<std::vector<std::string>> GgufReader::Texts(const std::string& key) const {
  SAE_ASSIGN_OR_RETURN(const GgufValue* value, Value(key));
  if (const auto* texts = std::get_if<std::vector<std::string>>(&value->value)) return *texts;
  return WrongType(path_, key, *value, "an array of strings");
}

absl::StatusOr<std::vector<std::int64_t>> GgufReader::Integers(const std::string& key) const {
  SAE_ASSIGN_OR_RETURN(const GgufValue* value, Value(key));
  if (const auto* ints = std::get_if<std::vector<std::int64_t>>(&value->value)) return *ints;
  if (const auto* u = std::get_if<std::vector<std::uint64_t>>(&value->value)) {
    return std::vector<std::int64_t>(u->begin(), u->end());
  }
  return WrongType(path_, key, *value, "an array of integers");
}

}  // namespace sae::lm
