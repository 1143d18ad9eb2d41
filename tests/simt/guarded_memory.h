#pragma once
// Device memory of the executor: each buffer lies between guard pages, against the one behind it
// (kEnd) or before it (kStart), so that an access just outside faults and can be named. What lies
// between buffer and pages is filled with bytes that must not change. A freed buffer becomes a
// guard as a whole. Thread-safe.

#include <cstddef>
#include <cstdint>
#include <map>
#include <string>

#include "sae/base/mutex.h"
#include "sae/base/status.h"

namespace sae::simt {

class GuardedMemory {
 public:
  enum class Placement { kEnd, kStart };

  /// `capacity`: bytes that live buffers may take. Fresh memory holds `fill`.
  GuardedMemory(std::int64_t capacity, Placement placement, std::uint8_t fill)
      : capacity_(capacity), placement_(placement), fill_(fill) {}
  ~GuardedMemory();
  GuardedMemory(const GuardedMemory&) = delete;
  GuardedMemory& operator=(const GuardedMemory&) = delete;

  /// kStart: page-aligned. kEnd: 16-byte aligned. RESOURCE_EXHAUSTED beyond the capacity.
  [[nodiscard]] absl::StatusOr<void*> Allocate(std::int64_t bytes, const std::string& name);
  /// INTERNAL: bytes beside the buffer were written. INVALID_ARGUMENT: not a live buffer.
  [[nodiscard]] absl::Status Free(void* memory);
  /// INTERNAL: bytes beside a live buffer were written.
  [[nodiscard]] absl::Status CheckBytesBeside() const;

  /// Whether the address is in a live or freed buffer or a guard.
  bool Owns(const void* address) const;
  /// INVALID_ARGUMENT unless [memory, memory + bytes) lies in one live buffer.
  [[nodiscard]] absl::Status CheckRange(const void* memory, std::int64_t bytes) const;
  /// "4 bytes behind the end of buffer 'x' (28 bytes)"; empty: unknown address.
  std::string Describe(const void* address) const;

  std::int64_t capacity() const { return capacity_; }
  std::int64_t used() const;
  int live() const;

 private:
  struct Block {
    std::string name;
    char* buffer;
    std::int64_t bytes;
    std::size_t mapped;  // with both guard pages
    bool freed = false;
  };
  const Block* Find(const void* address) const ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);
  static absl::Status Damage(const char* mapping, const Block& block);

  const std::int64_t capacity_;
  const Placement placement_;
  const std::uint8_t fill_;
  mutable Mutex mu_;
  std::map<char*, Block> blocks_ ABSL_GUARDED_BY(mu_);  // by mapping
  std::int64_t used_ ABSL_GUARDED_BY(mu_) = 0;
  int live_ ABSL_GUARDED_BY(mu_) = 0;
};

}  // namespace sae::simt
