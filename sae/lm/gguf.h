#pragma once
// A GGUF model file (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3),
// read by memory map: metadata and the table of tensors. Nothing is dequantised here (dequant.h).
// Immutable after Open and thread-safe; spans live as long as the reader.
// Errors: INVALID_ARGUMENT for what is not GGUF, an unsupported version or a value of another type,
// DATA_LOSS for a file that is cut short or whose header lies (names file and offset), NOT_FOUND
// for a missing file, key or tensor.

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "sae/base/status.h"
#include "sae/lm/dequant.h"

namespace sae::lm {

/// Numbers as in the file.
enum class GgufValueType : std::uint32_t {
  kUint8,
  kInt8,
  kUint16,
  kInt16,
  kUint32,
  kInt32,
  kFloat32,
  kBool,
  kString,
  kArray,
  kUint64,
  kInt64,
  kFloat64
};
/// "UINT32" and the like; "" for a number that is not a type.
std::string GgufValueTypeName(GgufValueType type);

/// One metadata value. Integers are widened to 64 bits, float32 to double (exactly).
struct GgufValue {
  GgufValueType type = GgufValueType::kUint32;
  /// Of the elements, when `type` is kArray; arrays of arrays are refused.
  GgufValueType element_type = GgufValueType::kUint32;
  std::variant<std::uint64_t, std::int64_t, double, bool, std::string, std::vector<std::uint64_t>,
               std::vector<std::int64_t>, std::vector<double>, std::vector<std::string>>
      value;
};

struct GgufTensor {
  std::string name;
  GgmlType type = GgmlType::kF32;
  /// As in the file: fastest first, so a matrix is [columns, rows].
  std::vector<std::int64_t> dimensions;
  std::int64_t file_offset = 0;
  /// Empty for a type whose size this program does not know.
  std::span<const std::byte> data;
  std::int64_t elements() const;
};

class GgufReader {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<GgufReader>> Open(const std::string& path);
  ~GgufReader();
  GgufReader(const GgufReader&) = delete;
  GgufReader& operator=(const GgufReader&) = delete;

  const std::string& path() const { return path_; }
  std::uint32_t version() const { return version_; }
  std::int64_t alignment() const { return alignment_; }
  /// Where tensor data begins.
  std::int64_t data_offset() const { return data_offset_; }
  std::span<const std::byte> file() const { return file_; }
  const std::map<std::string, GgufValue>& metadata() const { return metadata_; }
  /// In the order of the file.
  const std::vector<GgufTensor>& tensors() const { return tensors_; }

  [[nodiscard]] absl::StatusOr<const GgufTensor*> Tensor(const std::string& name) const;
  /// The tensor as float32; `dimensions` (fastest first) must match.
  [[nodiscard]] absl::StatusOr<std::vector<float>> Floats(
      const std::string& name, const std::vector<std::int64_t>& dimensions) const;

  bool Has(const std::string& key) const { return metadata_.count(key) != 0; }
  [[nodiscard]] absl::StatusOr<std::int64_t> Integer(const std::string& key) const;
  [[nodiscard]] absl::StatusOr<double> Real(const std::string& key) const;
  [[nodiscard]] absl::StatusOr<std::string> Text(const std::string& key) const;
  [[nodiscard]] absl::StatusOr<std::vector<std::string>> Texts(const std::string& key) const;
  [[nodiscard]] absl::StatusOr<std::vector<std::int64_t>> Integers(const std::string& key) const;

 private:
  GgufReader() = default;
  [[nodiscard]] absl::Status Parse();
  [[nodiscard]] absl::Status ParseTensors(class GgufCursor& cursor, std::uint64_t count);
  [[nodiscard]] absl::StatusOr<const GgufValue*> Value(const std::string& key) const;

  std::string path_;
  std::span<const std::byte> file_;
  std::uint32_t version_ = 0;
  std::int64_t alignment_ = 32;
  std::int64_t data_offset_ = 0;
  std::map<std::string, GgufValue> metadata_;
  std::vector<GgufTensor> tensors_;
  std::map<std::string, std::size_t> tensor_index_;
};

}  // namespace sae::lm
