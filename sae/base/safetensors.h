#pragma once
// The safetensors container: 8 bytes little-endian header length, a JSON header, raw tensors
// (https://github.com/huggingface/safetensors, "Format"). Read by memory map, written in one pass.
// A reader is immutable after Open and thread-safe; its views live as long as it.
// Errors: DATA_LOSS for a file that is cut short or whose header lies (names file, offset and
// sizes), INVALID_ARGUMENT for what is not safetensors at all, NOT_FOUND for a missing file or
// tensor.

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sae/base/dtype.h"
#include "sae/base/env.h"
#include "sae/base/status.h"

namespace sae {

/// A tensor inside a mapped file: row-major, little-endian.
struct TensorView {
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  std::span<const std::byte> data;
  std::int64_t file_offset = 0;
  std::int64_t elements() const;
};

class SafetensorsReader {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<SafetensorsReader>> Open(
      const std::string& path);
  ~SafetensorsReader();
  SafetensorsReader(const SafetensorsReader&) = delete;
  SafetensorsReader& operator=(const SafetensorsReader&) = delete;

  const std::string& path() const { return path_; }
  const std::map<std::string, TensorView>& tensors() const { return tensors_; }
  const std::map<std::string, std::string>& metadata() const { return metadata_; }
  /// NOT_FOUND names the tensor and those that are there; UNIMPLEMENTED for a dtype outside DType.
  [[nodiscard]] absl::StatusOr<TensorView> Get(const std::string& name) const;
  /// The tensor as float32, whatever its floating dtype; INVALID_ARGUMENT unless the shape is
  /// `shape` (an empty `shape` takes any).
  [[nodiscard]] absl::StatusOr<std::vector<float>> GetFloats(
      const std::string& name, const std::vector<std::int64_t>& shape = {}) const;

 private:
  SafetensorsReader() = default;
  [[nodiscard]] absl::Status ParseHeader();

  std::string path_;
  std::map<std::string, TensorView> tensors_;
  std::map<std::string, std::string> metadata_;
  std::map<std::string, std::string> unsupported_;  ///< tensors of other dtypes: name, dtype
  void* map_ = nullptr;
  std::size_t map_bytes_ = 0;
};

struct TensorToWrite {
  std::string name;
  DType dtype = DType::kF32;
  std::vector<std::int64_t> shape;
  /// Borrowed until Write returns; row-major.
  std::span<const std::byte> data;
};

/// A span of values as bytes.
template <class T>
std::span<const std::byte> AsBytes(const T* data, std::size_t count) {
  return std::as_bytes(std::span<const T>(data, count));
}

/// The header block of a file that holds `tensors` (their `data` is not looked at) in this order:
/// 8-byte length and JSON, space-padded so that tensor data starts at a multiple of `align` (a
/// power of two >= 8).
[[nodiscard]] absl::StatusOr<std::string> SafetensorsHeader(
    const std::vector<TensorToWrite>& tensors,
    const std::map<std::string, std::string>& metadata = {}, std::int64_t align = 4096);

/// Writes the whole file, fsynced, not renamed. Returns the XXH3 of all its bytes.
[[nodiscard]] absl::StatusOr<std::uint64_t> WriteSafetensors(
    Env& env, const std::string& path, const std::vector<TensorToWrite>& tensors,
    const std::map<std::string, std::string>& metadata = {}, std::int64_t align = 4096);

}  // namespace sae
