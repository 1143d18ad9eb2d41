#pragma once
// std::vector whose data starts at a multiple of 64 bytes: whole cache lines and vectors. Large
// ones start at a huge page and ask for such pages where the system offers them on request: rows
// that are gathered from a matrix then cost fewer misses of the address translation. Owns its
// memory as std::vector does.

#include <cstddef>
#include <cstdlib>
#include <new>
#include <vector>

#if defined(__linux__)
#include <sys/mman.h>
#endif

namespace sae::kernels {

inline constexpr std::size_t kAlignment = 64;
inline constexpr std::size_t kHugePage = std::size_t{1} << 21;

template <class T>
struct AlignedAllocator {
  using value_type = T;
  AlignedAllocator() = default;
  template <class U>
  AlignedAllocator(const AlignedAllocator<U>&) {}  // NOLINT: implicit, as the standard wants it
  static std::align_val_t AlignmentOf(std::size_t n) {
    return std::align_val_t{n * sizeof(T) < 2 * kHugePage ? kAlignment : kHugePage};
  }
  T* allocate(std::size_t n) {
    void* p = ::operator new(n * sizeof(T), AlignmentOf(n));
#if defined(__linux__)
    // Whole huge pages only. Refusal changes nothing but speed.
    const std::size_t whole = n * sizeof(T) / kHugePage * kHugePage;
    if (whole >= 2 * kHugePage) (void)madvise(p, whole, MADV_HUGEPAGE);
#endif
    return static_cast<T*>(p);
  }
  void deallocate(T* p, std::size_t n) { ::operator delete(p, AlignmentOf(n)); }
  friend bool operator==(const AlignedAllocator&, const AlignedAllocator&) { return true; }
  friend bool operator!=(const AlignedAllocator&, const AlignedAllocator&) { return false; }
};

template <class T>
using AlignedVector = std::vector<T, AlignedAllocator<T>>;

}  // namespace sae::kernels
