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

/// Entries of the tokens from `token` on.
Slots SlotsFrom(const Slots& slots, std::int64_t token, std::int64_t tokens);
bool Valid(const EncodeParams& params, const LargestParams& largest);
/// Columns of BatchTopK's first chunk: what an empty slot takes.
std::int64_t FirstColumns(const EncodeParams& params, const LargestParams& largest);
/// Empty slots and a floor of 0.
[[nodiscard]] Error BeginLargest(const LargestParams& largest, void* stream);
/// The wanted-th largest of `ranked` (largest.slots' values, or as many others) becomes the floor;
/// entries whose value is below it go, and what `companion` has of them.
[[nodiscard]] Error Raise(const LargestParams& largest, const float* ranked, float* companion,
                          void* stream);
/// Whether to raise the floor once the columns before `end` are done; `*raised`: the last time, 0
/// before the first.
bool RaisesAt(const EncodeParams& params, std::int64_t end, std::int64_t* raised);

/// Enqueues one product and what `select` enqueues, for each chunk of columns and group of tokens,
/// and what `between` enqueues after all tokens of the columns before `end`.
[[nodiscard]] Error EncodeChunks(
    cuda::DeviceLibrary* library, const EncodeParams& params, const EncodeScratch& scratch,
    std::int64_t first_columns,
    absl::FunctionRef<Error(const ChunkProducts& chunk, std::int64_t token)> select,
    absl::FunctionRef<Error(std::int64_t end)> between, void* stream);

}  // namespace sae::kernels::device
