#include "sae/base/safetensors.h"

#include <algorithm>
#include <cerrno>
#include <fcntl.h>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "sae/base/hash.h"

namespace sae {
namespace {
using Json = nlohmann::ordered_json;

constexpr std::int64_t kPrefixBytes = 8;
/// The limit of the reference implementation: a longer header is hostile or not a header.
constexpr std::uint64_t kMaxHeaderBytes = 100'000'000;

struct DTypeName {
  DType dtype;
  const char* name;
};
constexpr DTypeName kDTypes[] = {{DType::kF32, "F32"},   {DType::kF64, "F64"}, {DType::kF16, "F16"},
                                 {DType::kBf16, "BF16"}, {DType::kI32, "I32"}, {DType::kI64, "I64"},
                                 {DType::kU8, "U8"}};

const char* NameOf(DType dtype) {
  for (const auto& entry : kDTypes) {
    if (entry.dtype == dtype) return entry.name;
  }
  return "?";
}

std::optional<DType> DTypeFromName(const std::string& name) {
  for (const auto& entry : kDTypes) {
    if (name == entry.name) return entry.dtype;
  }
  return std::nullopt;
}

std::string ShapeText(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (std::size_t i = 0; i < shape.size(); ++i)
    absl::StrAppend(&text, i == 0 ? "" : ", ", shape[i]);
  return text + "]";
}

/// Elements of a shape, or nothing when a size is negative or the product overflows.
std::optional<std::int64_t> CheckedElements(const std::vector<std::int64_t>& shape) {
  std::int64_t n = 1;
  for (const std::int64_t size : shape) {
    if (size < 0 || __builtin_mul_overflow(n, size, &n)) return std::nullopt;
  }
  return n;
}

struct Entry {
  std::string name;
  std::string dtype;
  std::vector<std::int64_t> shape;
  std::int64_t begin = 0;
  std::int64_t end = 0;
};

absl::Status HeaderLies(const std::string& path, const std::string& what) {
  return absl::DataLossError(absl::StrCat(path, ": ", what, ": the file is damaged"));
}

absl::StatusOr<Entry> ParseEntry(const std::string& path, const std::string& name,
                                 const Json& value) {
  Entry e;
  e.name = name;
  try {
    e.dtype = value.at("dtype").get<std::string>();
    e.shape = value.at("shape").get<std::vector<std::int64_t>>();
    const auto& offsets = value.at("data_offsets");
    if (offsets.size() != 2)
      return HeaderLies(path, absl::StrCat("tensor '", name, "' has no offsets"));
    e.begin = offsets[0].get<std::int64_t>();
    e.end = offsets[1].get<std::int64_t>();
  } catch (const nlohmann::json::exception& error) {
    return HeaderLies(path, absl::StrCat("header entry '", name, "': ", error.what()));
  }
  if (e.begin < 0 || e.end < e.begin) {
    return HeaderLies(path,
                      absl::StrCat("tensor '", name, "' has offsets ", e.begin, " to ", e.end));
  }
  return e;
}

/// Every tensor's bytes must be what its shape says, and all of them together must tile the data.
absl::Status CheckLayout(const std::string& path, std::vector<Entry> entries,
                         std::int64_t data_start, std::int64_t file_bytes) {
  for (const Entry& e : entries) {
    const auto elements = CheckedElements(e.shape);
    const auto dtype = DTypeFromName(e.dtype);
    std::int64_t want = 0;
    if (!elements || (dtype && __builtin_mul_overflow(*elements, SizeOf(*dtype), &want))) {
      return HeaderLies(path, absl::StrCat("tensor '", e.name, "' has the impossible shape ",
                                           ShapeText(e.shape)));
    }
    if (dtype && want != e.end - e.begin) {
      return HeaderLies(
          path, absl::StrCat("tensor '", e.name, "' of shape ", ShapeText(e.shape), " ", e.dtype,
                             " needs ", want, " bytes, its offsets hold ", e.end - e.begin));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return a.begin != b.begin ? a.begin < b.begin : a.end < b.end;
  });
  std::int64_t end = 0;
  for (const Entry& e : entries) {
    if (e.begin != end) {
      return HeaderLies(path, absl::StrCat("tensor '", e.name, "' begins at data offset ", e.begin,
                                           ", the one before it ends at ", end));
    }
    end = e.end;
  }
  const std::int64_t have = file_bytes - data_start;
  if (have < end) {
    return absl::DataLossError(absl::StrCat(path, ": cut short: its header at offset 0 promises ",
                                            data_start, " + ", end, " bytes, the file has ",
                                            file_bytes, ", so data ends at offset ", file_bytes,
                                            ": copy or make it again"));
  }
  if (have > end) {
    return HeaderLies(path, absl::StrCat(have - end, " bytes follow the last tensor at offset ",
                                         data_start + end));
  }
  return absl::OkStatus();
}

template <class T, class F>
std::vector<float> Convert(std::span<const std::byte> data, F&& to_float) {
  std::vector<float> out(data.size() / sizeof(T));
  for (std::size_t i = 0; i < out.size(); ++i) {
    T value;
    std::memcpy(&value, data.data() + i * sizeof(T), sizeof(T));
    out[i] = to_float(value);
  }
  return out;
}

}  // namespace

std::int64_t TensorView::elements() const { return CheckedElements(shape).value_or(0); }

absl::StatusOr<std::unique_ptr<SafetensorsReader>> SafetensorsReader::Open(
    const std::string& path) {
  std::unique_ptr<SafetensorsReader> reader(new SafetensorsReader);
  reader->path_ = path;
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return ErrnoToStatus(errno, absl::StrCat("cannot open ", path));
  struct stat st {};
  const bool is_file = ::fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
  void* map = MAP_FAILED;
  if (is_file && st.st_size >= kPrefixBytes) {
    map = ::mmap(nullptr, static_cast<std::size_t>(st.st_size), PROT_READ, MAP_SHARED, fd, 0);
  }
  const int error = errno;
  ::close(fd);
  if (!is_file) return absl::InvalidArgumentError(absl::StrCat(path, " is not a file"));
  if (st.st_size < kPrefixBytes) {
    return absl::DataLossError(
        absl::StrCat(path, ": cut short: ", st.st_size,
                     " bytes, a safetensors file begins with 8 of header length"));
  }
  if (map == MAP_FAILED) return ErrnoToStatus(error, absl::StrCat("cannot map ", path));
  reader->map_ = map;
  reader->map_bytes_ = static_cast<std::size_t>(st.st_size);
  SAE_RETURN_IF_ERROR(reader->ParseHeader());
  return reader;
}

absl::Status SafetensorsReader::ParseHeader() {
  const auto* bytes = static_cast<const std::byte*>(map_);
  const auto file_bytes = static_cast<std::int64_t>(map_bytes_);
  std::uint64_t header_bytes = 0;
  std::memcpy(&header_bytes, bytes, sizeof header_bytes);
  if (header_bytes > kMaxHeaderBytes || (file_bytes > kPrefixBytes && bytes[8] != std::byte{'{'})) {
    return absl::InvalidArgumentError(
        absl::StrCat(path_, " is not a safetensors file: its first 8 bytes give a header of ",
                     header_bytes, " bytes, which does not begin with '{'"));
  }
  const std::int64_t data_start = kPrefixBytes + static_cast<std::int64_t>(header_bytes);
  if (data_start > file_bytes) {
    return absl::DataLossError(absl::StrCat(path_, ": cut short: its header ends at offset ",
                                            data_start, ", the file has ", file_bytes,
                                            " bytes: copy or make it again"));
  }
  const char* text = static_cast<const char*>(map_) + kPrefixBytes;
  const Json header = Json::parse(text, text + header_bytes, nullptr, /*allow_exceptions=*/false);
  if (!header.is_object()) return HeaderLies(path_, "its header (offset 8) is not a JSON object");
  std::vector<Entry> entries;
  for (const auto& [name, value] : header.items()) {
    if (name == "__metadata__") {
      if (!value.is_object()) return HeaderLies(path_, "__metadata__ is not an object");
      for (const auto& [key, text_value] : value.items()) {
        if (!text_value.is_string())
          return HeaderLies(path_, absl::StrCat("metadata '", key, "' is not text"));
        metadata_[key] = text_value.get<std::string>();
      }
      continue;
    }
    SAE_ASSIGN_OR_RETURN(Entry entry, ParseEntry(path_, name, value));
    entries.push_back(std::move(entry));
  }
  SAE_RETURN_IF_ERROR(CheckLayout(path_, entries, data_start, file_bytes));
  for (Entry& e : entries) {
    const auto dtype = DTypeFromName(e.dtype);
    if (!dtype) {
      unsupported_[e.name] = e.dtype;
      continue;
    }
    const std::int64_t offset = data_start + e.begin;
    tensors_[e.name] = TensorView{*dtype,
                                  std::move(e.shape),
                                  {bytes + offset, static_cast<std::size_t>(e.end - e.begin)},
                                  offset};
  }
  return absl::OkStatus();
}

SafetensorsReader::~SafetensorsReader() {
  if (map_ != nullptr) ::munmap(map_, map_bytes_);
}

absl::StatusOr<TensorView> SafetensorsReader::Get(const std::string& name) const {
  const auto it = tensors_.find(name);
  if (it != tensors_.end()) return it->second;
  if (const auto odd = unsupported_.find(name); odd != unsupported_.end()) {
    return absl::UnimplementedError(absl::StrCat(path_, ": tensor '", name, "' has dtype ",
                                                 odd->second,
                                                 "; read are F32 F64 F16 BF16 I32 I64 U8"));
  }
  std::string names;
  for (const auto& [key, view] : tensors_) absl::StrAppend(&names, names.empty() ? "" : ", ", key);
  return absl::NotFoundError(absl::StrCat(path_, " has no tensor '", name, "'; it has: ", names));
}

absl::StatusOr<std::vector<float>> SafetensorsReader::GetFloats(
    const std::string& name, const std::vector<std::int64_t>& shape) const {
  SAE_ASSIGN_OR_RETURN(const TensorView view, Get(name));
  if (!shape.empty() && shape != view.shape) {
    return absl::InvalidArgumentError(absl::StrCat(path_, ": tensor '", name, "' has shape ",
                                                   ShapeText(view.shape), ", expected ",
                                                   ShapeText(shape)));
  }
  switch (view.dtype) {
    case DType::kF32:
      return Convert<float>(view.data, [](float v) { return v; });
    case DType::kF64:
      return Convert<double>(view.data, [](double v) { return static_cast<float>(v); });
    case DType::kF16:
      return Convert<std::uint16_t>(view.data, F16ToFloat);
    case DType::kBf16:
      return Convert<std::uint16_t>(view.data, Bf16ToFloat);
    default:
      return absl::InvalidArgumentError(absl::StrCat(path_, ": tensor '", name, "' holds ",
                                                     NameOf(view.dtype),
                                                     ", expected F32, F64, F16 or BF16"));
  }
}

absl::StatusOr<std::string> SafetensorsHeader(const std::vector<TensorToWrite>& tensors,
                                              const std::map<std::string, std::string>& metadata,
                                              std::int64_t align) {
  if (align < 8 || (align & (align - 1)) != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("alignment ", align, " is not a power of two of at least 8"));
  }
  Json header = Json::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::int64_t begin = 0;
  for (const TensorToWrite& t : tensors) {
    const auto elements = CheckedElements(t.shape);
    if (!elements || header.contains(t.name) || t.name == "__metadata__") {
      return absl::InvalidArgumentError(absl::StrCat("cannot write tensor '", t.name, "' of shape ",
                                                     ShapeText(t.shape),
                                                     ": a name twice, or an impossible shape"));
    }
    const std::int64_t end = begin + *elements * SizeOf(t.dtype);
    header[t.name] = {
        {"dtype", NameOf(t.dtype)}, {"shape", t.shape}, {"data_offsets", {begin, end}}};
    begin = end;
  }
  std::string text = header.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  const auto used = static_cast<std::int64_t>(text.size()) + kPrefixBytes;
  text.append(static_cast<std::size_t>((align - used % align) % align), ' ');
  const std::uint64_t length = text.size();
  if (length > kMaxHeaderBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat("a safetensors header of ", length, " bytes is too long"));
  }
  std::string block(kPrefixBytes, '\0');
  std::memcpy(block.data(), &length, sizeof length);
  return block + text;
}

absl::StatusOr<std::uint64_t> WriteSafetensors(Env& env, const std::string& path,
                                               const std::vector<TensorToWrite>& tensors,
                                               const std::map<std::string, std::string>& metadata,
                                               std::int64_t align) {
  SAE_ASSIGN_OR_RETURN(const std::string header, SafetensorsHeader(tensors, metadata, align));
  for (const TensorToWrite& t : tensors) {
    const std::int64_t want = *CheckedElements(t.shape) * SizeOf(t.dtype);
    if (static_cast<std::int64_t>(t.data.size()) != want) {
      return absl::InvalidArgumentError(absl::StrCat(path, ": tensor '", t.name, "' of shape ",
                                                     ShapeText(t.shape), " needs ", want,
                                                     " bytes, given ", t.data.size()));
    }
  }
  Xxh3Stream hash;
  SAE_ASSIGN_OR_RETURN(auto file, env.Create(path));
  SAE_RETURN_IF_ERROR(file->Append(header));
  hash.Update(AsBytes(header.data(), header.size()));
  for (const TensorToWrite& t : tensors) {
    SAE_RETURN_IF_ERROR(file->Append(t.data));
    hash.Update(t.data);
  }
  SAE_RETURN_IF_ERROR(file->Sync());
  SAE_RETURN_IF_ERROR(file->Close());
  return hash.Digest();
}

}  // namespace sae
