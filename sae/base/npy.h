#pragma once
// NumPy's .npy files (format 1.0 to 3.0: magic, header length, a Python dict literal, raw values),
// read by memory map: https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html
// Immutable after Open; thread-safe; the view lives as long as the reader.
// Errors: NOT_FOUND, DATA_LOSS (cut short: names offset and sizes), INVALID_ARGUMENT (not npy,
// Fortran order, a dtype outside DType), each with the path.

#include <memory>
#include <string>

#include "sae/base/safetensors.h"
#include "sae/base/status.h"

namespace sae {

class NpyReader {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<NpyReader>> Open(const std::string& path);
  ~NpyReader();
  NpyReader(const NpyReader&) = delete;
  NpyReader& operator=(const NpyReader&) = delete;
  const TensorView& view() const { return view_; }

 private:
  NpyReader() = default;
  [[nodiscard]] absl::Status Parse(const std::string& path);

  TensorView view_;
  void* map_ = nullptr;
  std::size_t map_bytes_ = 0;
};

}  // namespace sae
