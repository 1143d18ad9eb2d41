#pragma once
// Inside this folder: the products of the bf16 screen by oneDNN. Encoder rows lie packed in chunks
// of kScreenLatents. Thread safety: AddWorkers alone; then one thread a `worker`. Errors: none;
// without Available() an object is a bug (SAE_CHECK).

#include <cstdint>
#include <memory>

namespace sae::kernels {

class Bf16Product {
 public:
  /// Whether the processor has bf16 dot products and the build has oneDNN.
  static bool Available();

  Bf16Product(std::int64_t latents, std::int64_t d);
  ~Bf16Product();
  Bf16Product(const Bf16Product&) = delete;
  Bf16Product& operator=(const Bf16Product&) = delete;

  /// Length of a bf16 row: a multiple of 32, zeros behind d.
  std::int64_t padded() const { return padded_; }
  /// There are at least `count` workers from now on.
  void AddWorkers(int count);
  /// The worker's kScreenLatents rows to be filled and packed, [kScreenLatents, padded()].
  std::uint16_t* Rows(int worker);
  void Pack(std::int64_t chunk, int worker);
  /// z [kScreenTokens, kScreenLatents] = x [kScreenTokens, padded()] times the packed chunk.
  void Multiply(const std::uint16_t* x, std::int64_t chunk, int worker, float* z);

 private:
  struct Impl;
  const std::int64_t padded_;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sae::kernels
