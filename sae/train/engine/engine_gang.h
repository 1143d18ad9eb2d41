#pragma once
// What engines that step over the same rows in one process share: rows as the encoder takes them (where they are
// treated alike: copied, normalised, rounded for the screen), made once, and the pass over token blocks, made for
// all encoders together. The engines run one at a time; the run loop (sae/train/gang.h) sees to that. An engine
// gets the bits that it gets alone. Not thread-safe. Borrows the meeting. Production's float only.

#include <array>
#include <cstdint>
#include <memory>
#include <span>

#include "sae/kernels/block_meeting.h"
#include "sae/kernels/screen.h"
#include "sae/train/engine/batch.h"

namespace sae::train {

class EngineGang {
 public:
  explicit EngineGang(kernels::BlockMeeting& meeting) : meeting_(meeting) {}

  kernels::BlockMeeting& meeting() { return meeting_; }
  /// Rows that will be loaded next. They stay where and as they are until the next Announce, after which no engine
  /// looks at the old ones.
  void Announce(std::span<const float> rows);
  /// Null where `rows` are others than those announced.
  std::shared_ptr<const LoadedRows<float>> Load(std::span<const float> rows, const Context& context);
  /// For x() of what Load gave out; null for other rows.
  const kernels::ScreenTokens* Tokens(const float* x, std::int64_t tokens, std::int64_t d, bool bf16,
                                      ThreadPool& pool);

 private:
  /// By treatment: as they are, and normalised per token.
  struct Slot {
    std::shared_ptr<LoadedRows<float>> rows;
    bool loaded = false;
    kernels::ScreenTokens tokens;
    bool rounded = false;
  };

  kernels::BlockMeeting& meeting_;
  std::span<const float> announced_;
  std::array<Slot, 2> slots_;
};

}  // namespace sae::train
