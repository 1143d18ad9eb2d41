#include "sae/train/engine/global_topk.h"

#include <algorithm>
#include <limits>
#include <numeric>

#include "sae/base/check.h"

namespace sae::train {
namespace {
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
GlobalTopK<T>::GlobalTopK(comm::Communicator& communicator, ThreadPool& pool,
                          const model::LatentShard& shard, std::int64_t narrow, int node)
    : communicator_(communicator),
      pool_(pool),
      shard_(shard),
      narrow_(narrow),
      node_(node < communicator.size() ? node : 0) {
  SAE_CHECK_MSG(node_ == 0 || communicator.size() % node_ == 0, "nodes of %d of %d ranks", node_,
                communicator.size());
}

template <class T>
void GlobalTopK<T>::Encode(const kernels::EncodeInput<T>& input, std::int64_t width,
                           kernels::EncodeWorkspace<T>* workspace, bool* finite) {
  *finite = true;
  own_.tokens = input.tokens;
  own_.width = width;
  if (width == 0) {
    own_.values.clear();
    own_.ids.clear();
    return;
  }
  // One rank that takes all it finds needs no order by value.
  const bool by_id = communicator_.size() == 1 && narrow_ == 0;
  if (kernels::EncodeTopK(input, width, workspace, &own_, pool_,
                          by_id ? kernels::TopKOrder::kById : kernels::TopKOrder::kByValue))
    return;
  // NaN is in no order: offer what never wins, so that every rank goes on to see the loss.
  *finite = false;
  own_.values.assign(Size(input.tokens * width), -std::numeric_limits<T>::infinity());
  own_.ids.assign(own_.values.size(), static_cast<std::int32_t>(input.first_latent));
}

// Splits the ranks the first time, and gives every buffer the size of its worst case.
template <class T>
absl::Status GlobalTopK<T>::Prepare(std::int64_t tokens, std::int64_t k) {
  const std::int64_t ranks = communicator_.size();
  if (node_ > 0 && inside_ == nullptr) {
    const int rank = communicator_.rank();
    SAE_ASSIGN_OR_RETURN(inside_, communicator_.Split(rank / node_, rank));
    SAE_ASSIGN_OR_RETURN(between_, communicator_.Split(rank % node_, rank));
  }
  if (k != k_) {
    k_ = k;
    capacity_ = kernels::ShardCapacity(k, ranks);
    node_capacity_ = node_ > 0 ? kernels::ShardCapacity(k, ranks / node_) : 0;
  }
  part_ = std::max<std::int64_t>(8, tokens / 256);
  const std::int64_t lists =
      node_ > 0 ? std::max(node_ * capacity_, ranks / node_ * node_capacity_) : ranks * capacity_;
  send_.reserve(Size(std::max(tokens * std::max(capacity_, node_capacity_), part_ * k)));
  values_.reserve(Size(tokens * lists));
  more_.reserve(Size(part_ * ranks * k));
  scratch_.resize(Size(pool_.size() * ranks * std::max(k, node_capacity_)));
  row_lists_.resize(Size(pool_.size() * ranks));
  for (Lists* l : {&first_, &second_}) l->shards.reserve(Size(ranks));
  counts_.reserve(Size(ranks));
  places_.reserve(Size(ranks));
  flags_.reserve(Size(tokens));
  unsafe_.reserve(Size(tokens));
  ties_.reserve(Size(tokens) * cuts());
  tie_counts_.reserve(Size(part_ * ranks));
  slots_.reserve(Size(part_));
  own_ids_.reserve(Size(part_ * k));
  ids_.reserve(Size(part_ * ranks * k));
  tied_ids_.reserve(Size(ranks * k));
  for (auto& w : winners_) w.resize(Size(tokens));
  return absl::OkStatus();
}

template <class T>
absl::Status GlobalTopK<T>::Gather(comm::Communicator& communicator,
                                   std::span<const std::int64_t> offered, std::int64_t width,
                                   std::span<const std::int32_t> tokens, Lists* lists) {
  const bool all = tokens.data() == nullptr;
  const std::int64_t rows = all ? own_.tokens : static_cast<std::int64_t>(tokens.size());
  const std::int64_t mine = std::min(width, own_.width);
  send_.resize(Size(rows * mine));
  for (std::int64_t r = 0; r < rows; ++r)
    std::copy_n(own_.values.begin() + (all ? r : tokens[Size(r)]) * own_.width, mine,
                send_.begin() + r * mine);
  counts_.clear();
  for (const std::int64_t n : offered) counts_.push_back(rows * std::min(width, n));
  std::vector<T>& to = all ? values_ : more_;
  communicator.SetPurpose(all ? kSelectFirst : kSelectSecond);
  to.resize(Size(std::accumulate(counts_.begin(), counts_.end(), std::int64_t{0})));
  SAE_RETURN_IF_ERROR(communicator.AllGatherV(send_.data(), to.data(), counts_, DTypeOf<T>()));
  lists->rows = rows;
  lists->tokens = all ? nullptr : tokens.data();
  lists->ranks = true;
  lists->shards.clear();
  const T* at = to.data();
  for (const std::int64_t n : offered) {
    const std::int64_t w = std::min(width, n);
    lists->shards.push_back({at, w, w == n || w >= k_});
    at += rows * w;
  }
  return absl::OkStatus();
}

template <class T>
std::span<const kernels::ShardList<T>> GlobalTopK<T>::Row(const Lists& lists, std::int64_t row,
                                                          int worker) {
  kernels::ShardList<T>* out = row_lists_.data() + worker * communicator_.size();
  for (std::size_t s = 0; s < lists.shards.size(); ++s) {
    out[s] = lists.shards[s];
    out[s].values += row * out[s].width;
  }
  return {out, lists.shards.size()};
}

template <class T>
absl::Status GlobalTopK<T>::NodeRound(std::span<const std::int64_t> offered, Phases* phases) {
  const std::int64_t nodes = communicator_.size() / node_;
  const auto own = offered.subspan(Size(communicator_.rank() / node_ * node_), Size(node_));
  {
    PhaseTimer timer(phases->exchange);
    SAE_RETURN_IF_ERROR(Gather(*inside_, own, capacity_, {}, &first_));
  }
  {
    PhaseTimer timer(phases->select);
    send_.resize(Size(own_.tokens * node_capacity_));
    const std::int64_t room = communicator_.size() * std::max(k_, node_capacity_);
    pool_.ParallelFor(own_.tokens, [&](std::int64_t begin, std::int64_t end, int worker) {
      for (std::int64_t b = begin; b < end; ++b)
        kernels::MergeNode(Row(first_, b, worker), node_capacity_,
                           scratch_.data() + worker * room, send_.data() + b * node_capacity_);
    });
  }
  PhaseTimer timer(phases->exchange);
  const std::int64_t count = own_.tokens * node_capacity_;
  values_.resize(Size(nodes * count));
  between_->SetPurpose(kSelectFirst);
  SAE_RETURN_IF_ERROR(between_->AllGatherEqual(send_.data(), values_.data(), count, DTypeOf<T>()));
  first_.ranks = false;
  first_.shards.clear();
  for (std::int64_t node = 0; node < nodes; ++node)
    first_.shards.push_back({values_.data() + node * count, node_capacity_, false});
  return absl::OkStatus();
}

template <class T>
absl::Status GlobalTopK<T>::FirstRound(std::span<const std::int64_t> offered, Phases* phases) {
  if (node_ > 0) return NodeRound(offered, phases);
  PhaseTimer timer(phases->exchange);
  return Gather(communicator_, offered, capacity_, {}, &first_);
}

template <class T>
std::uint8_t GlobalTopK<T>::CutRow(const Lists& lists, std::int64_t row, int worker) {
  const std::int64_t room = communicator_.size() * std::max(k_, node_capacity_);
  const auto shards = Row(lists, row, worker);
  const std::int64_t token = lists.tokens == nullptr ? row : lists.tokens[row];
  std::uint8_t flags = 0;
  for (std::size_t cut = 0; cut < cuts(); ++cut) {
    const std::int64_t k = CutSize(cut);
    const kernels::TopKCut<T> c = kernels::FindCut(shards, k, scratch_.data() + worker * room);
    const auto own =
        kernels::CountAtCut(own_.values.data() + token * own_.width, own_.width, c.tau);
    const bool tied = c.tied(k);
    if (!c.certified || (tied && !lists.ranks)) flags |= kUnsafe;
    if (tied) flags = static_cast<std::uint8_t>(flags | kTied << cut);
    // The slots of a tie are added when they are known.
    winners_[cut][Size(token)] = static_cast<std::int32_t>(own.above + (tied ? 0 : own.ties));
  }
  return flags;
}

template <class T>
void GlobalTopK<T>::Cut(const Lists& lists, Phases* phases) {
  PhaseTimer timer(phases->select);
  flags_.resize(Size(lists.rows));
  pool_.ParallelFor(lists.rows, [&](std::int64_t begin, std::int64_t end, int worker) {
    for (std::int64_t row = begin; row < end; ++row) flags_[Size(row)] = CutRow(lists, row, worker);
  });
  const bool final = &lists == &second_;
  ties_.clear();
  for (std::int64_t row = 0; row < lists.rows; ++row) {
    const std::uint8_t flags = flags_[Size(row)];
    if (flags == 0) continue;
    if ((flags & kUnsafe) != 0) {
      SAE_CHECK_MSG(!final, "token %d is unsafe with all its candidates", lists.tokens[row]);
      unsafe_.push_back(static_cast<std::int32_t>(row));
      continue;
    }
    for (std::size_t cut = 0; cut < cuts(); ++cut) {
      if ((flags & kTied << cut) != 0)
        ties_.push_back({static_cast<std::int32_t>(row), static_cast<std::int32_t>(cut)});
    }
  }
}

// Each rank knows from the lists how many ids come from each.
template <class T>
absl::Status GlobalTopK<T>::ExchangeTies(const Lists& lists, std::span<const Tie> ties,
                                         Phases* phases) {
  const std::size_t ranks = lists.shards.size();
  counts_.assign(ranks, 0);
  tie_counts_.clear();
  slots_.clear();
  own_ids_.clear();
  for (const Tie& tie : ties) {
    const auto shards = Row(lists, tie.row, 0);
    const std::int64_t k = CutSize(Size(tie.cut));
    const kernels::TopKCut<T> c = kernels::FindCut(shards, k, scratch_.data());
    slots_.push_back(c.Slots(k));
    for (std::size_t r = 0; r < ranks; ++r) {
      const auto at = kernels::CountAtCut(shards[r].values, shards[r].width, c.tau);
      tie_counts_.push_back(at.ties);
      counts_[r] += at.ties;
      if (static_cast<int>(r) != communicator_.rank()) continue;
      const std::int64_t token = lists.tokens == nullptr ? tie.row : lists.tokens[tie.row];
      for (std::int64_t j = at.above; j < at.above + at.ties; ++j) {
        const std::int64_t local = own_.ids[Size(token * own_.width + j)];
        own_ids_.push_back(static_cast<std::int32_t>(shard_.Global(local)));
      }
    }
  }
  PhaseTimer timer(phases->exchange);
  ids_.resize(Size(std::accumulate(counts_.begin(), counts_.end(), std::int64_t{0})));
  communicator_.SetPurpose(kSelectTies);
  SAE_RETURN_IF_ERROR(
      communicator_.AllGatherV(own_ids_.data(), ids_.data(), counts_, DType::kI32));
  counters_.tied_tokens += static_cast<std::int64_t>(ties.size());
  return absl::OkStatus();
}

template <class T>
absl::Status GlobalTopK<T>::ResolveTies(const Lists& lists, Phases* phases) {
  const std::size_t ranks = lists.shards.size();
  for (std::size_t begin = 0; begin < ties_.size(); begin += Size(part_)) {
    const auto ties =
        std::span<const Tie>(ties_).subspan(begin, std::min(Size(part_), ties_.size() - begin));
    SAE_RETURN_IF_ERROR(ExchangeTies(lists, ties, phases));
    PhaseTimer timer(phases->select);
    places_.assign(ranks, 0);
    std::partial_sum(counts_.begin(), counts_.end() - 1, places_.begin() + 1);
    std::size_t own = 0;
    for (std::size_t t = 0; t < ties.size(); ++t) {
      tied_ids_.clear();
      for (std::size_t r = 0; r < ranks; ++r) {
        const auto from = ids_.begin() + places_[r];
        const std::int64_t count = tie_counts_[t * ranks + r];
        tied_ids_.insert(tied_ids_.end(), from, from + count);
        places_[r] += count;
      }
      const std::int32_t last = kernels::LastWinner(tied_ids_, slots_[t]);
      const std::int64_t row = ties[t].row;
      const std::int64_t token = lists.tokens == nullptr ? row : lists.tokens[row];
      const std::int64_t mine = tie_counts_[t * ranks + Size(communicator_.rank())];
      for (const std::size_t end = own + Size(mine); own < end; ++own)
        winners_[Size(ties[t].cut)][Size(token)] += own_ids_[own] <= last ? 1 : 0;
    }
  }
  return absl::OkStatus();
}

template <class T>
absl::Status GlobalTopK<T>::SecondRound(std::span<const std::int64_t> offered, Phases* phases) {
  counters_.unsafe_tokens += static_cast<std::int64_t>(unsafe_.size());
  for (std::size_t begin = 0; begin < unsafe_.size(); begin += Size(part_)) {
    const auto tokens = std::span<const std::int32_t>(unsafe_).subspan(
        begin, std::min(Size(part_), unsafe_.size() - begin));
    {
      PhaseTimer timer(phases->exchange);
      SAE_RETURN_IF_ERROR(Gather(communicator_, offered, k_, tokens, &second_));
    }
    Cut(second_, phases);
    SAE_RETURN_IF_ERROR(ResolveTies(second_, phases));
  }
  return absl::OkStatus();
}

template <class T>
absl::Status GlobalTopK<T>::Choose(std::span<const std::int64_t> offered, Phases* phases) {
  unsafe_.clear();
  SAE_RETURN_IF_ERROR(FirstRound(offered, phases));
  Cut(first_, phases);
  SAE_RETURN_IF_ERROR(ResolveTies(first_, phases));
  return SecondRound(offered, phases);
}

template <class T>
absl::Status GlobalTopK<T>::Select(const kernels::EncodeInput<T>& input, std::int64_t k,
                                   std::span<const std::int64_t> offered,
                                   kernels::EncodeWorkspace<T>* workspace, kernels::Codes<T>* codes,
                                   bool* finite, Phases* phases) {
  {
    PhaseTimer timer(phases->encode);
    Encode(input, std::min(k, offered[Size(communicator_.rank())]), workspace, finite);
  }
  counters_.tokens += input.tokens;
  const std::int64_t all = std::accumulate(offered.begin(), offered.end(), std::int64_t{0});
  // All that is offered wins: nothing to agree on.
  chosen_ = communicator_.size() > 1 && all > (narrow_ > 0 ? std::min(k, narrow_) : k);
  if (chosen_) {
    SAE_RETURN_IF_ERROR(Prepare(input.tokens, k));
    const int purpose = communicator_.purpose();
    const absl::Status chosen = Choose(offered, phases);
    communicator_.RestorePurpose(purpose);
    SAE_RETURN_IF_ERROR(chosen);
  }
  PhaseTimer timer(phases->select);
  kernels::CodesFromTopK(own_, chosen_ ? winners_[0].data() : nullptr, 0, shard_.count, codes,
                         pool_);
  return absl::OkStatus();
}

template <class T>
void GlobalTopK<T>::Narrow(kernels::Codes<T>* codes, Phases* phases) {
  PhaseTimer timer(phases->select);
  const std::int32_t* winners = chosen_ ? winners_[1].data() : nullptr;
  if (communicator_.size() == 1 && narrow_ < own_.width) {
    winners_[1].assign(Size(own_.tokens), static_cast<std::int32_t>(narrow_));
    winners = winners_[1].data();
  }
  kernels::CodesFromTopK(own_, winners, 0, shard_.count, codes, pool_);
}

template class GlobalTopK<float>;
template class GlobalTopK<double>;

}  // namespace sae::train
