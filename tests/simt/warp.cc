// Warp functions: a lane that calls one waits until every lane of its mask has called the same one
// with the same mask; the last to come computes all results.
#include <algorithm>

#include "absl/strings/str_cat.h"

#include "tests/simt/executor.h"
#include "tests/simt/names.h"

namespace sae::simt {
namespace {

struct Source {
  int lane;
  bool own;  // outside the segment: the lane keeps its value
};

Source ShuffleSource(WarpOp op, int lane, int argument, int width) {
  const int base = lane & ~(width - 1);
  int source = lane;
  switch (op) {
    case WarpOp::kShuffle:
      return {base + (argument & (width - 1)), false};
    case WarpOp::kShuffleUp:
      source = lane - argument;
      return source < base ? Source{lane, true} : Source{source, false};
    case WarpOp::kShuffleDown:
      source = lane + argument;
      return source >= base + width ? Source{lane, true} : Source{source, false};
    default:
      source = lane ^ argument;
      return source >= base + width ? Source{lane, true} : Source{source, false};
  }
}

bool IsShuffle(WarpOp op) {
  return op == WarpOp::kShuffle || op == WarpOp::kShuffleUp || op == WarpOp::kShuffleDown ||
         op == WarpOp::kShuffleXor;
}

std::uint64_t Combine(WarpOp op, std::uint64_t a, std::uint64_t b) {
  const auto x = static_cast<unsigned>(a), y = static_cast<unsigned>(b);
  const auto i = static_cast<int>(x), j = static_cast<int>(y);
  switch (op) {
    case WarpOp::kReduceAdd:
      return x + y;
    case WarpOp::kReduceMin:
      return std::min(x, y);
    case WarpOp::kReduceMax:
      return std::max(x, y);
    case WarpOp::kReduceMinSigned:
      return static_cast<unsigned>(std::min(i, j));
    case WarpOp::kReduceMaxSigned:
      return static_cast<unsigned>(std::max(i, j));
    case WarpOp::kAny:
      return a | b;
    default:  // kAll
      return a & b;
  }
}

}  // namespace

void Executor::WarpBarrier(const char* file, int id) {
  in_kernel_ = 0;
  if (IsDeleted(file, id)) {
    in_kernel_ = 1;
    return;
  }
  Thread& self = threads_[static_cast<std::size_t>(running_)];
  self.file = file;
  self.id = id;
  const int lanes = std::min(32, count_ - running_ / 32 * 32);
  WarpExchange(WarpOp::kBarrier, lanes == 32 ? 0xFFFFFFFFU : (1U << lanes) - 1U, 0, 0, 32);
}

std::uint64_t Executor::WarpExchange(WarpOp op, unsigned mask, std::uint64_t value, int argument,
                                     int width) {
  in_kernel_ = 0;
  const int warp = running_ / 32, lane = running_ % 32;
  Thread& self = threads_[static_cast<std::size_t>(running_)];
  self.op = op;
  self.mask = mask;
  self.value = value;
  self.argument = argument;
  self.width = width;
  Warp& group = warps_[static_cast<std::size_t>(warp)];
  const Thread& last = threads_[static_cast<std::size_t>(group.last)];
  const bool same = last.mask == mask && last.op == op &&
                    (op != WarpOp::kBarrier || (last.file == self.file && last.id == self.id));
  if (group.waiting == 0) {
    group.one_group = true;
  } else {
    group.one_group = group.one_group && same;
  }
  const bool fits = ((mask >> lane) & 1U) != 0 && (mask & group.absent) == 0 && width >= 1 &&
                    width <= 32 && (width & (width - 1)) == 0;
  if ((!fits || !group.one_group) && NoteError(WarpConflict(running_, group.waiting))) GiveUp();
  self.state = State::kAtWarp;
  group.waiting |= 1U << lane;
  group.last = running_;
  bool complete = (group.waiting & mask) == mask;
  for (int l = 0; l < 32 && complete && !group.one_group; ++l) {
    if (((mask >> l) & 1U) == 0) continue;
    complete = threads_[static_cast<std::size_t>(32 * warp + l)].mask == mask;
  }
  if (complete) {
    if (NoteError(WarpResults(warp, mask))) GiveUp();
    group.waiting &= ~mask;
    for (int l = 0; l < 32; ++l) {
      if (((mask >> l) & 1U) != 0) SetReady(32 * warp + l);
    }
    Suspend(State::kReady);
  } else {
    Suspend(State::kAtWarp);
  }
  return self.result;
}

// Why the call of `thread` can never be answered, as far as it shows now. `waiting`: lanes that
// wait already. A lane that waits with another mask may still come, unless that mask names this
// thread.
std::string Executor::WarpConflict(int thread, unsigned waiting) const {
  const Thread& self = threads_[static_cast<std::size_t>(thread)];
  const int lane = thread % 32, first = thread - lane;
  const std::string call = WarpOpText(self.op, self.file, self.id);
  if (((self.mask >> lane) & 1U) == 0) {
    return absl::StrCat("called ", call, " with mask ", MaskText(self.mask),
                        ", which does not name its own lane ", lane);
  }
  if (self.width < 1 || self.width > 32 || (self.width & (self.width - 1)) != 0) {
    return absl::StrCat("called ", call, " with width ", self.width);
  }
  for (int l = 0; l < 32; ++l) {
    if (((self.mask >> l) & 1U) == 0 || l == lane) continue;
    if (first + l >= count_) {
      return absl::StrCat("called ", call, " with mask ", MaskText(self.mask), ", but lane ", l,
                          " is not there: the block has ", count_, " threads");
    }
    const Thread& other = threads_[static_cast<std::size_t>(first + l)];
    if (other.state == State::kDone) {
      return absl::StrCat("called ", call, " with mask ", MaskText(self.mask), ", but lane ", l,
                          " has ended");
    }
    if (((waiting >> l) & 1U) == 0 || ((other.mask >> lane) & 1U) == 0) continue;
    const bool other_barrier = self.op == WarpOp::kBarrier && other.op == WarpOp::kBarrier &&
                               (self.file != other.file || self.id != other.id);
    if (other.mask != self.mask || other.op != self.op || other_barrier) {
      return absl::StrCat("called ", call, " with mask ", MaskText(self.mask), " while lane ", l,
                          " waits in ", WarpOpText(other.op, other.file, other.id), " with mask ",
                          MaskText(other.mask));
    }
  }
  return "";
}

// All lanes of `mask` have come. Fills in their results, or says what is wrong.
std::string Executor::WarpResults(int warp, unsigned mask) {
  Thread* lanes = &threads_[static_cast<std::size_t>(32 * warp)];
  const int leader = __builtin_ctz(mask);
  const WarpOp op = lanes[leader].op;
  std::uint64_t all = lanes[leader].value;
  if (op == WarpOp::kBallot) all = 0;
  for (int l = 0; l < 32; ++l) {
    if (((mask >> l) & 1U) == 0) continue;
    Thread& self = lanes[l];
    if (IsShuffle(op)) {
      const Source source = ShuffleSource(op, l, self.argument, self.width);
      if (!source.own && (source.lane < 0 || ((mask >> source.lane) & 1U) == 0)) {
        return absl::StrCat(WarpOpText(op, self.file, self.id), " with mask ", MaskText(mask),
                            ": lane ", l, " reads lane ", source.lane,
                            ", which is not in the mask");
      }
      self.result = lanes[source.lane].value;
    } else if (op == WarpOp::kBallot) {
      all |= self.value << l;
    } else if (op == WarpOp::kMatchAny) {
      self.result = 0;
      for (int other = 0; other < 32; ++other) {
        if (((mask >> other) & 1U) != 0 && lanes[other].value == self.value) {
          self.result |= std::uint64_t{1} << other;
        }
      }
    } else if (l != leader && op != WarpOp::kBarrier) {
      all = Combine(op, all, self.value);
    }
  }
  if (IsShuffle(op) || op == WarpOp::kMatchAny) return "";
  for (int l = 0; l < 32; ++l) {
    if (((mask >> l) & 1U) != 0) lanes[l].result = all;
  }
  return "";
}

}  // namespace sae::simt
