#pragma once
// The chunk loop that the functions of encode.h share, and the division of their scratch memory.

#include <cstdint>
#include <type_traits>

#include "absl/functional/function_ref.h"

#include "sae/kernels/device/encode.h"

namespace sae::kernels::device {

/// Hands out parts of one block of memory, each aligned. With a null block it measures.
class ScratchParts {
 public:
  explicit ScratchParts(void* memory) : memory_(static_cast<char*>(memory)) {}
  template <class T>
  T* Take(std::int64_t count) {
    T* part = memory_ == nullptr ? nullptr : reinterpret_cast<T*>(memory_ + bytes_);
    bytes_ += (count * static_cast<std::int64_t>(sizeof(T)) + 255) / 256 * 256;
    return part;
  }
  std::int64_t bytes() const { return bytes_; }

 private:
  char* memory_;
  std::int64_t bytes_ = 0;
};

struct EncodeScratch {
  float* products = nullptr;    ///< [tokens of a group, columns of a chunk]
  float* joined = nullptr;      ///< [columns, d]: exact
  std::uint16_t* hi = nullptr;  ///< [columns, d]: a subset, not exact
  float* c = nullptr;           ///< columns, where rows are gathered
};
EncodeScratch TakeEncodeScratch(const EncodeParams& params, ScratchParts* parts);

bool Valid(const EncodeParams& params);
/// schedule.first_columns, or chunk_columns.
std::int64_t FirstColumns(const EncodeParams& params);

/// Enqueues one product and what `select` enqueues, for each chunk of columns and group of tokens,
/// and what `between` enqueues after all tokens of the columns before `end`.
[[nodiscard]] Error EncodeChunks(
    cuda::DeviceLibrary* library, const EncodeParams& params, const EncodeScratch& scratch,
    std::int64_t first_columns,
    absl::FunctionRef<Error(const ChunkProducts& chunk, std::int64_t token)> select,
    absl::FunctionRef<Error(std::int64_t end)> between, void* stream);

}  // namespace sae::kernels::device
