#include "tests/fake_nccl/channel.h"

#include <algorithm>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

namespace fake_nccl {

SharedBoard::SharedBoard(const std::string& path) {
  const int file = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
  if (file < 0) return;
  // A new file reads as zeros, which is how every field begins; all ranks set the same length.
  if (::ftruncate(file, sizeof(Board)) == 0) {
    void* map = ::mmap(nullptr, sizeof(Board), PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map != MAP_FAILED) board_ = static_cast<Board*>(map);
  }
  ::close(file);
}

SharedBoard::~SharedBoard() {
  if (board_ != nullptr) ::munmap(board_, sizeof(Board));
}

Flow::Flow(Ring* ring, bool sends, unsigned char* data, std::uint64_t bytes,
           std::uint64_t signature)
    : ring_(ring), sends_(sends), data_(data), bytes_(bytes), header_{signature, bytes} {}

unsigned char* Flow::At(std::uint64_t position) {
  if (position >= sizeof(header_)) return data_ + (position - sizeof(header_));
  auto& header = sends_ ? header_ : found_;
  return reinterpret_cast<unsigned char*>(header.data()) + position;
}

bool Flow::Progress() { return done() || (sends_ ? Send() : Receive()); }

bool Flow::Send() {
  const std::uint64_t total = sizeof(header_) + bytes_;
  std::uint64_t written = ring_->written.load(std::memory_order_relaxed);
  const std::uint64_t room = kRingBytes - (written - ring_->read.load(std::memory_order_acquire));
  std::uint64_t left = std::min(room, total - moved_);
  while (left > 0) {
    const std::uint64_t at = written % kRingBytes;
    const std::uint64_t piece_end = moved_ < sizeof(header_) ? sizeof(header_) : total;
    const std::uint64_t piece = std::min({left, kRingBytes - at, piece_end - moved_});
    std::memcpy(ring_->data.data() + at, At(moved_), piece);
    written += piece;
    moved_ += piece;
    left -= piece;
  }
  ring_->written.store(written, std::memory_order_release);
  return true;
}

bool Flow::Receive() {
  const std::uint64_t total = sizeof(header_) + bytes_;
  std::uint64_t read = ring_->read.load(std::memory_order_relaxed);
  std::uint64_t left =
      std::min(ring_->written.load(std::memory_order_acquire) - read, total - moved_);
  while (left > 0) {
    const std::uint64_t at = read % kRingBytes;
    const std::uint64_t piece_end = moved_ < sizeof(header_) ? sizeof(header_) : total;
    const std::uint64_t piece = std::min({left, kRingBytes - at, piece_end - moved_});
    std::memcpy(At(moved_), ring_->data.data() + at, piece);
    read += piece;
    moved_ += piece;
    left -= piece;
    if (moved_ == sizeof(header_) && found_ != header_) return false;
  }
  ring_->read.store(read, std::memory_order_release);
  return true;
}

}  // namespace fake_nccl
