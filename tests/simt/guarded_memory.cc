#include "tests/simt/guarded_memory.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <sys/mman.h>

namespace sae::simt {
namespace {

constexpr std::size_t kPage = 4096;
constexpr int kCanary = 0xC5;
constexpr std::size_t kBufferAlignment = 16;

std::size_t RoundUp(std::size_t value, std::size_t to) { return (value + to - 1) / to * to; }

bool Untouched(const char* begin, const char* end) {
  return std::all_of(begin, end,
                     [](char byte) { return static_cast<unsigned char>(byte) == kCanary; });
}

}  // namespace

GuardedMemory::~GuardedMemory() {
  for (auto& [mapping, block] : blocks_) munmap(mapping, block.mapped);
}

absl::StatusOr<void*> GuardedMemory::Allocate(std::int64_t bytes, const std::string& name) {
  if (bytes < 0) {
    return absl::InvalidArgumentError(absl::StrCat("allocate '", name, "': ", bytes, " bytes"));
  }
  MutexLock lock(mu_);
  if (bytes > capacity_ - used_) {
    return absl::ResourceExhaustedError(absl::StrCat("allocate '", name, "': ", bytes,
                                                     " bytes needed, ", capacity_ - used_, " of ",
                                                     capacity_, " free"));
  }
  const std::size_t data = RoundUp(static_cast<std::size_t>(bytes), kPage);
  void* memory = mmap(nullptr, data + 2 * kPage, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) return ErrnoToStatus(errno, absl::StrCat("map '", name, "'"));
  auto* mapping = static_cast<char*>(memory);
  char* begin = mapping + kPage;
  char* end = begin + data;
  if (data > 0 && mprotect(begin, data, PROT_READ | PROT_WRITE) != 0) {
    munmap(memory, data + 2 * kPage);
    return ErrnoToStatus(errno, absl::StrCat("map '", name, "'"));
  }
  char* buffer = placement_ == Placement::kStart
                     ? begin
                     : end - RoundUp(static_cast<std::size_t>(bytes), kBufferAlignment);
  std::memset(begin, kCanary, static_cast<std::size_t>(buffer - begin));
  std::memset(buffer, fill_, static_cast<std::size_t>(bytes));
  std::memset(buffer + bytes, kCanary, static_cast<std::size_t>(end - buffer - bytes));
  blocks_[mapping] = {name, buffer, bytes, data + 2 * kPage};
  used_ += bytes;
  ++live_;
  return buffer;
}

absl::Status GuardedMemory::Damage(const char* mapping, const Block& block) {
  const char* begin = mapping + kPage;
  const char* end = mapping + block.mapped - kPage;
  if (!Untouched(begin, block.buffer)) {
    return absl::InternalError(absl::StrCat("bytes before buffer '", block.name, "' were written"));
  }
  if (!Untouched(block.buffer + block.bytes, end)) {
    return absl::InternalError(absl::StrCat("bytes behind the end of buffer '", block.name, "' (",
                                            block.bytes, " bytes) were written"));
  }
  return absl::OkStatus();
}

const GuardedMemory::Block* GuardedMemory::Find(const void* address) const {
  const auto* a = static_cast<const char*>(address);
  auto it = blocks_.upper_bound(const_cast<char*>(a));
  if (it == blocks_.begin()) return nullptr;
  --it;
  return a < it->first + it->second.mapped ? &it->second : nullptr;
}

absl::Status GuardedMemory::Free(void* memory) {
  MutexLock lock(mu_);
  const auto it = std::find_if(blocks_.begin(), blocks_.end(), [memory](const auto& entry) {
    return entry.second.buffer == memory && !entry.second.freed;
  });
  if (it == blocks_.end()) {
    return absl::InvalidArgumentError("free of what is not the start of a live buffer");
  }
  Block& block = it->second;
  absl::Status damage = Damage(it->first, block);
  // The pages go, the addresses stay taken: a later access faults and is named.
  mmap(it->first, block.mapped, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED,
       -1, 0);
  block.freed = true;
  used_ -= block.bytes;
  --live_;
  return damage;
}

absl::Status GuardedMemory::CheckBytesBeside() const {
  MutexLock lock(mu_);
  for (const auto& [mapping, block] : blocks_) {
    if (block.freed) continue;
    absl::Status damage = Damage(mapping, block);
    if (!damage.ok()) return damage;
  }
  return absl::OkStatus();
}

bool GuardedMemory::Owns(const void* address) const {
  MutexLock lock(mu_);
  return Find(address) != nullptr;
}

absl::Status GuardedMemory::CheckRange(const void* memory, std::int64_t bytes) const {
  MutexLock lock(mu_);
  const Block* block = Find(memory);
  const auto* begin = static_cast<const char*>(memory);
  if (block == nullptr) return absl::InvalidArgumentError("not device memory");
  if (block->freed) {
    return absl::InvalidArgumentError(absl::StrCat("buffer '", block->name, "' was freed"));
  }
  if (bytes < 0 || begin < block->buffer || begin + bytes > block->buffer + block->bytes) {
    return absl::InvalidArgumentError(absl::StrCat(bytes, " bytes from offset ",
                                                   begin - block->buffer, " leave buffer '",
                                                   block->name, "' (", block->bytes, " bytes)"));
  }
  return absl::OkStatus();
}

std::string GuardedMemory::Describe(const void* address) const {
  MutexLock lock(mu_);
  const Block* block = Find(address);
  if (block == nullptr) return "";
  const auto* a = static_cast<const char*>(address);
  const std::string buffer = absl::StrCat("buffer '", block->name, "' (", block->bytes, " bytes)");
  if (block->freed) return absl::StrCat(buffer, ", which was freed");
  if (a < block->buffer) return absl::StrCat(block->buffer - a, " bytes before ", buffer);
  return absl::StrCat(a - block->buffer - block->bytes, " bytes behind the end of ", buffer);
}

std::int64_t GuardedMemory::used() const {
  MutexLock lock(mu_);
  return used_;
}

int GuardedMemory::live() const {
  MutexLock lock(mu_);
  return live_;
}

}  // namespace sae::simt
