#pragma once
// Exact TopK over all ranks from few values. First round: each rank offers the c largest values of
// a token, no ids; all see all, find the k-th largest and check that no rank can have held back a
// winner (kernels/shard_topk.h). Second round, for the tokens where one can: k values of each rank.
// Ties at the cut go to the lower global latent: ids are exchanged for such tokens only. From 64
// ranks on in two levels: inside nodes of `node` consecutive ranks, then between nodes.
// Only positive values can win. Collective: all ranks call Select together, and every decision is
// made from what all ranks see. Rare tokens go in parts of max(8, tokens / 256), so that buffers
// have one size: nothing is allocated after the first call of a size. Not thread-safe.
// Source: spec numerics.md 3; algorithms.md 3.9.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "sae/kernels/encode.h"
#include "sae/kernels/shard_topk.h"
#include "sae/train/engine/context.h"

namespace sae::train {

/// Ranks of a node for two levels; 0: one level.
inline int SelectionNode(int ranks) { return ranks >= 64 && ranks % 8 == 0 ? 8 : 0; }

/// Of one selector, since it was made; the same on all ranks. What is sent counts under the
/// communicator's purposes of these names.
struct SelectionCounters {
  std::int64_t tokens = 0;
  std::int64_t unsafe_tokens = 0;  ///< that took the second round
  std::int64_t tied_tokens = 0;    ///< whose ids were exchanged, once for each cut
};
inline constexpr const char* kSelectFirst = "select.first";
inline constexpr const char* kSelectSecond = "select.second";
inline constexpr const char* kSelectTies = "select.ties";

template <class T>
class GlobalTopK {
 public:
  /// `narrow` > 0: Narrow to that many may follow a Select of more. `node` divides the ranks.
  GlobalTopK(comm::Communicator& communicator, ThreadPool& pool, const model::LatentShard& shard,
             std::int64_t narrow, int node);
  GlobalTopK(comm::Communicator& communicator, ThreadPool& pool, const model::LatentShard& shard,
             std::int64_t narrow = 0)
      : GlobalTopK(communicator, pool, shard, narrow, SelectionNode(communicator.size())) {}

  /// `offered`: how many latents each rank's input holds (its subset, or its shard). `codes` gets
  /// this rank's positive winners. `finite` becomes false where a pre-activation of this rank was
  /// NaN; it then offers nothing, and the caller lets the loss show it.
  [[nodiscard]] absl::Status Select(const kernels::EncodeInput<T>& input, std::int64_t k,
                                    std::span<const std::int64_t> offered,
                                    kernels::EncodeWorkspace<T>* workspace,
                                    kernels::Codes<T>* codes, bool* finite, Phases* phases);
  /// Codes of the `narrow` first of the last Select.
  void Narrow(kernels::Codes<T>* codes, Phases* phases);

  const SelectionCounters& counters() const { return counters_; }

 private:
  enum Flag : std::uint8_t { kUnsafe = 1, kTied = 2 };  // kTied << cut
  static constexpr std::size_t kCuts = 2;               // of Select, of Narrow

  // Lists of values of some tokens, as an all-gather leaves them.
  struct Lists {
    std::vector<kernels::ShardList<T>> shards;  // of row 0; row r is `width` further for each row
    std::int64_t rows = 0;
    const std::int32_t* tokens = nullptr;  // of the rows; null: row = token
    bool ranks = true;                     // one list a rank, not a node
  };
  struct Tie {
    std::int32_t row = 0;
    std::int32_t cut = 0;
  };

  void Encode(const kernels::EncodeInput<T>& input, std::int64_t width,
              kernels::EncodeWorkspace<T>* workspace, bool* finite);
  [[nodiscard]] absl::Status Prepare(std::int64_t tokens, std::int64_t k);
  [[nodiscard]] absl::Status Choose(std::span<const std::int64_t> offered, Phases* phases);
  /// Gathers the `width` first values of `rows` tokens (null: all) from `communicator`'s ranks.
  [[nodiscard]] absl::Status Gather(comm::Communicator& communicator,
                                    std::span<const std::int64_t> offered, std::int64_t width,
                                    std::span<const std::int32_t> tokens, Lists* lists);
  [[nodiscard]] absl::Status FirstRound(std::span<const std::int64_t> offered, Phases* phases);
  [[nodiscard]] absl::Status NodeRound(std::span<const std::int64_t> offered, Phases* phases);
  [[nodiscard]] absl::Status SecondRound(std::span<const std::int64_t> offered, Phases* phases);
  /// winners_ and flags_ of the rows; fills ties_, and unsafe_ where the lists are not final.
  void Cut(const Lists& lists, Phases* phases);
  std::uint8_t CutRow(const Lists& lists, std::int64_t row, int worker);
  [[nodiscard]] absl::Status ResolveTies(const Lists& lists, Phases* phases);
  [[nodiscard]] absl::Status ExchangeTies(const Lists& lists, std::span<const Tie> ties,
                                          Phases* phases);
  std::span<const kernels::ShardList<T>> Row(const Lists& lists, std::int64_t row, int worker);
  std::int64_t CutSize(std::size_t cut) const { return cut == 0 ? k_ : narrow_; }
  std::size_t cuts() const { return narrow_ > 0 ? 2 : 1; }

  comm::Communicator& communicator_;
  ThreadPool& pool_;
  const model::LatentShard& shard_;
  const std::int64_t narrow_;
  const int node_;
  std::unique_ptr<comm::Communicator> inside_, between_;  // two levels: of the node; of nodes
  SelectionCounters counters_;

  std::int64_t k_ = 0;             // of the last Select
  std::int64_t part_ = 0;          // rare tokens in one exchange
  std::int64_t capacity_ = 0;      // values a rank offers first
  std::int64_t node_capacity_ = 0;
  bool chosen_ = false;            // winners_ hold; else all candidates win
  kernels::TopK<T> own_;
  Lists first_, second_;
  std::vector<T> send_, values_, more_, scratch_;
  std::vector<kernels::ShardList<T>> row_lists_;  // of each worker
  std::vector<std::int64_t> counts_, places_;
  std::vector<std::uint8_t> flags_;  // by row
  std::vector<std::int32_t> unsafe_;
  std::vector<Tie> ties_;
  std::vector<std::int64_t> tie_counts_, slots_;
  std::vector<std::int32_t> own_ids_, ids_, tied_ids_;
  std::array<std::vector<std::int32_t>, kCuts> winners_;
};

}  // namespace sae::train
