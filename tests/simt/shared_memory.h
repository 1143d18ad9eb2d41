#pragma once
// The shared memory of one block: static arrays with bytes around them that must not change, and
// the dynamic part, which ends at a guard page. Used again for each block. Not thread-safe.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace sae::simt {

inline constexpr std::size_t kStaticSharedLimit = 48 * 1024;
inline constexpr std::size_t kSharedLimit = 227 * 1024;

class SharedMemory {
 public:
  SharedMemory();
  ~SharedMemory();
  SharedMemory(const SharedMemory&) = delete;
  SharedMemory& operator=(const SharedMemory&) = delete;

  /// A new block: no static arrays, `dynamic_bytes` of dynamic memory, all filled with `fill`.
  void Begin(std::size_t dynamic_bytes, std::uint8_t fill);
  /// The array of `key`, made at the first call; null when it does not fit.
  void* Static(const void* key, const char* name, std::size_t bytes, std::size_t alignment);
  void* dynamic() const { return dynamic_; }
  /// Bytes beside an array that changed, in words; empty: none.
  std::string Damage() const;
  /// Where `address` lies, in words; empty: not here.
  std::string Describe(const void* address) const;

 private:
  struct Array {
    const void* key;
    const char* name;
    std::size_t begin, bytes;
  };
  char* memory_;  // static arrays; then the dynamic part; then a guard page
  char* dynamic_area_;
  char* dynamic_ = nullptr;
  std::size_t dynamic_bytes_ = 0;
  std::size_t used_ = 0;          // of the static part, gaps included
  std::size_t static_bytes_ = 0;  // arrays alone
  std::uint8_t fill_ = 0;
  std::vector<Array> arrays_;
};

}  // namespace sae::simt
