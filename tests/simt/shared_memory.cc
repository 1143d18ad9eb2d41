#include "tests/simt/shared_memory.h"

#include <algorithm>
#include <cstring>
#include <sys/mman.h>

#include "absl/strings/str_cat.h"

#include "sae/base/check.h"

namespace sae::simt {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kGap = 32;                             // before and behind each static array
constexpr std::size_t kStaticArea = 4 * kStaticSharedLimit;  // gaps and alignment included
constexpr std::size_t kDynamicArea = (kSharedLimit + kPage - 1) / kPage * kPage;
constexpr int kCanary = 0xC5;

std::size_t RoundUp(std::size_t value, std::size_t to) { return (value + to - 1) / to * to; }

}  // namespace

SharedMemory::SharedMemory() {
  void* memory = mmap(nullptr, kStaticArea + kDynamicArea + kPage, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  SAE_CHECK(memory != MAP_FAILED);
  memory_ = static_cast<char*>(memory);
  dynamic_area_ = memory_ + kStaticArea;
  SAE_CHECK(mprotect(dynamic_area_ + kDynamicArea, kPage, PROT_NONE) == 0);
}

SharedMemory::~SharedMemory() { munmap(memory_, kStaticArea + kDynamicArea + kPage); }

void SharedMemory::Begin(std::size_t dynamic_bytes, std::uint8_t fill) {
  arrays_.clear();
  used_ = 0;
  static_bytes_ = 0;
  fill_ = fill;
  dynamic_bytes_ = dynamic_bytes;
  dynamic_ = dynamic_area_ + kDynamicArea - RoundUp(dynamic_bytes, 16);
  std::memset(dynamic_, kCanary, RoundUp(dynamic_bytes, 16));
  std::memset(dynamic_, fill, dynamic_bytes);
}

void* SharedMemory::Static(const void* key, const char* name, std::size_t bytes,
                           std::size_t alignment) {
  for (const Array& array : arrays_) {
    if (array.key == key) return memory_ + array.begin;
  }
  const std::size_t begin = RoundUp(used_ + kGap, std::max<std::size_t>(alignment, 16));
  if (static_bytes_ + bytes > kStaticSharedLimit ||
      static_bytes_ + bytes + dynamic_bytes_ > kSharedLimit || begin + bytes + kGap > kStaticArea) {
    return nullptr;
  }
  std::memset(memory_ + used_, kCanary, begin - used_);
  std::memset(memory_ + begin, fill_, bytes);
  std::memset(memory_ + begin + bytes, kCanary, kGap);
  used_ = begin + bytes;
  static_bytes_ += bytes;
  arrays_.push_back({key, name, begin, bytes});
  return memory_ + begin;
}

std::string SharedMemory::Damage() const {
  const auto changed = [this](std::size_t begin, std::size_t end) {
    return std::any_of(memory_ + begin, memory_ + end,
                       [](char byte) { return static_cast<unsigned char>(byte) != kCanary; });
  };
  for (const Array& array : arrays_) {
    if (changed(array.begin + array.bytes, array.begin + array.bytes + kGap)) {
      return absl::StrCat("wrote behind the end of shared array '", array.name, "' (", array.bytes,
                          " bytes)");
    }
    if (changed(array.begin - kGap, array.begin)) {
      return absl::StrCat("wrote before shared array '", array.name, "'");
    }
  }
  const char* end = dynamic_ + dynamic_bytes_;
  const char* guard = dynamic_area_ + kDynamicArea;
  if (std::any_of(end, guard, [](char b) { return static_cast<unsigned char>(b) != kCanary; })) {
    return absl::StrCat("wrote behind the end of dynamic shared memory (", dynamic_bytes_,
                        " bytes)");
  }
  return "";
}

std::string SharedMemory::Describe(const void* address) const {
  const auto* a = static_cast<const char*>(address);
  const char* guard = dynamic_area_ + kDynamicArea;
  if (a < guard || a >= guard + kPage) return "";
  return absl::StrCat("behind the end of dynamic shared memory (", dynamic_bytes_, " bytes)");
}

}  // namespace sae::simt
