#include "tests/fake_nccl/task.h"

#include <cstring>

#include "sae/comm/backoff.h"
#include "sae/comm/reduce.h"

namespace fake_nccl {
namespace {

sae::DType TypeOf(ncclDataType_t type) {
  switch (type) {
    case ncclUint8:
      return sae::DType::kU8;
    case ncclInt32:
      return sae::DType::kI32;
    case ncclInt64:
      return sae::DType::kI64;
    case ncclFloat16:
      return sae::DType::kF16;
    case ncclFloat32:
      return sae::DType::kF32;
    case ncclFloat64:
      return sae::DType::kF64;
    case ncclBfloat16:
      return sae::DType::kBf16;
  }
  return sae::DType::kU8;
}

sae::comm::ReduceOp OpOf(ncclRedOp_t op) {
  using sae::comm::ReduceOp;
  return op == ncclSum ? ReduceOp::kSum : op == ncclMax ? ReduceOp::kMax : ReduceOp::kMin;
}

std::uint64_t Signature(const Op& op) {
  // The two ends of a message are one kind of call.
  const auto call = static_cast<std::uint64_t>(op.call == Call::kRecv ? Call::kSend : op.call);
  const bool message = op.call == Call::kSend || op.call == Call::kRecv;
  const auto peer = static_cast<std::uint64_t>(message ? 0 : op.peer);
  return 1 + call * 1000003 + static_cast<std::uint64_t>(op.type) * 10007 +
         static_cast<std::uint64_t>(op.op) * 101 + peer * 11 +
         static_cast<std::uint64_t>(op.count) * 1000000007;
}

class Plan {
 public:
  Plan(Board* board, int rank, int ranks) : board_(board), rank_(rank), ranks_(ranks) {}

  void Add(const Op& op) {
    const std::size_t bytes = op.count * WidthOf(op.type);
    switch (op.call) {
      case Call::kAllReduce:
        ToAll(op, [&](int) { return op.input; });
        return AddReduction(op, op.input);
      case Call::kReduceScatter:
        ToAll(op, [&](int peer) { return op.input + static_cast<std::size_t>(peer) * bytes; });
        return AddReduction(op, op.input + static_cast<std::size_t>(rank_) * bytes);
      case Call::kAllGather:
        ToAll(op, [&](int) { return op.input; });
        for (int r = 0; r < ranks_; ++r) {
          unsigned char* to = op.output + static_cast<std::size_t>(r) * bytes;
          if (r != rank_) From(op, r, to);
          if (r == rank_ && to != op.input) std::memmove(to, op.input, bytes);
        }
        return;
      case Call::kBroadcast:
        if (rank_ != op.peer) return From(op, op.peer, op.output);
        if (op.input != op.output) std::memmove(op.output, op.input, bytes);
        return ToAll(op, [&](int) { return op.input; });
      case Call::kSend:
        return To(op, op.peer, op.input);
      case Call::kRecv:
        return From(op, op.peer, op.output);
    }
  }

  Outcome Run(const std::function<bool()>& stop, const std::function<bool()>& broken,
              const std::function<void()>& half_sent) {
    bool told = false;
    sae::comm::Backoff backoff;
    for (;;) {
      if (stop()) return Outcome::kStopped;
      const bool last = broken();
      std::uint64_t sent = 0;
      bool all = true;
      // Flows of one ring go one after the other.
      std::array<std::array<bool, kMaxRanks>, 2> busy{};
      for (Entry& entry : flows_) {
        bool& taken = busy[entry.sends ? 1 : 0][static_cast<std::size_t>(entry.peer)];
        if (!taken && !entry.flow.Progress()) return Outcome::kMismatch;
        if (!entry.flow.done()) taken = true;
        all = all && entry.flow.done();
        if (entry.sends) sent += entry.flow.moved();
      }
      if (!told && 2 * sent >= to_send_) {
        told = true;
        half_sent();
      }
      if (all) break;
      if (last) return Outcome::kBroken;
      backoff.Pause();
    }
    for (const Reduction& reduction : reductions_) Reduce(reduction);
    return Outcome::kDone;
  }

 private:
  struct Entry {
    Flow flow;
    int peer;
    bool sends;
  };
  struct Reduction {
    Op op;
    std::vector<std::vector<unsigned char>> parts;  // [rank]
  };

  void To(const Op& op, int peer, const unsigned char* data) {
    const std::size_t bytes = op.count * WidthOf(op.type);
    Ring* ring = &board_->rings[static_cast<std::size_t>(rank_)][static_cast<std::size_t>(peer)];
    // A flow that sends only reads.
    flows_.push_back(
        {Flow(ring, true, const_cast<unsigned char*>(data), bytes, Signature(op)), peer, true});
    to_send_ += bytes;
  }
  void From(const Op& op, int peer, unsigned char* data) {
    const std::size_t bytes = op.count * WidthOf(op.type);
    Ring* ring = &board_->rings[static_cast<std::size_t>(peer)][static_cast<std::size_t>(rank_)];
    flows_.push_back({Flow(ring, false, data, bytes, Signature(op)), peer, false});
  }
  template <class F>
  void ToAll(const Op& op, const F& source) {
    for (int peer = 0; peer < ranks_; ++peer) {
      if (peer != rank_) To(op, peer, source(peer));
    }
  }

  void AddReduction(const Op& op, const unsigned char* own) {
    const std::size_t bytes = op.count * WidthOf(op.type);
    reductions_.push_back({op, {}});
    std::vector<std::vector<unsigned char>>& parts = reductions_.back().parts;
    for (int r = 0; r < ranks_; ++r) {
      if (r == rank_) {
        parts.emplace_back(own, own + bytes);
      } else {
        parts.emplace_back(bytes);
        From(op, r, parts.back().data());  // stays where it is when `parts` grows or moves
      }
    }
  }

  void Reduce(const Reduction& reduction) const {
    const Op& op = reduction.op;
    std::memcpy(op.output, reduction.parts.back().data(), reduction.parts.back().size());
    for (int r = ranks_ - 2; r >= 0; --r) {
      sae::comm::ReduceInto(op.output, reduction.parts[static_cast<std::size_t>(r)].data(),
                            static_cast<std::int64_t>(op.count), TypeOf(op.type), OpOf(op.op));
    }
  }

  Board* const board_;
  const int rank_;
  const int ranks_;
  std::vector<Entry> flows_;
  std::vector<Reduction> reductions_;
  std::uint64_t to_send_ = 0;
};

}  // namespace

std::size_t WidthOf(ncclDataType_t type) {
  return static_cast<std::size_t>(sae::SizeOf(TypeOf(type)));
}

Outcome RunOps(Board* board, int rank, int ranks, const std::vector<Op>& ops,
               const std::function<bool()>& stop, const std::function<bool()>& broken,
               const std::function<void()>& half_sent) {
  Plan plan(board, rank, ranks);
  for (const Op& op : ops) plan.Add(op);
  return plan.Run(stop, broken, half_sent);
}

}  // namespace fake_nccl
