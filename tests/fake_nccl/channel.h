#pragma once
// The shared file of one communicator: who has joined, what each rank said at each split, and a
// small ring of bytes for each ordered pair of ranks. One writer and one reader a ring; everything
// is atomic or published by an atomic. Unmapped by the destructor; the file stays in its folder.

#include <array>
#include <atomic>
#include <cstdint>
#include <string>

namespace fake_nccl {

inline constexpr int kMaxRanks = 8;
inline constexpr int kMaxSplits = 16;
inline constexpr std::uint32_t kRingBytes = 16384;

struct SplitNote {
  std::atomic<int> said{0};
  int color = 0;
  int key = 0;
};

struct Ring {
  std::atomic<std::uint64_t> written{0};
  std::atomic<std::uint64_t> read{0};
  std::array<unsigned char, kRingBytes> data;
};

struct Board {
  std::atomic<int> ranks{0};  ///< that the first to come has said
  std::atomic<int> joined{0};
  std::array<std::atomic<int>, kMaxRanks> left;  ///< whose communicator was destroyed or aborted
  std::array<std::array<SplitNote, kMaxRanks>, kMaxSplits> splits;
  std::array<std::array<Ring, kMaxRanks>, kMaxRanks> rings;  ///< [from][to]
};

class SharedBoard {
 public:
  /// Null when the file cannot be mapped.
  explicit SharedBoard(const std::string& path);
  ~SharedBoard();
  SharedBoard(const SharedBoard&) = delete;
  SharedBoard& operator=(const SharedBoard&) = delete;
  Board* get() const { return board_; }

 private:
  Board* board_ = nullptr;
};

/// Bytes that one task sends to, or takes from, one peer: its ring carries 16 bytes of header (what
/// it is, how long), then the payload.
class Flow {
 public:
  Flow(Ring* ring, bool sends, unsigned char* data, std::uint64_t bytes, std::uint64_t signature);

  /// Moves what fits now. False: the peer's header is another one.
  bool Progress();
  bool done() const { return moved_ == sizeof(header_) + bytes_; }
  std::uint64_t moved() const { return moved_; }

 private:
  bool Send();
  bool Receive();
  unsigned char* At(std::uint64_t position);

  Ring* ring_;
  bool sends_;
  unsigned char* data_;
  std::uint64_t bytes_;
  std::array<std::uint64_t, 2> header_;
  std::array<std::uint64_t, 2> found_{};
  std::uint64_t moved_ = 0;
};

}  // namespace fake_nccl
