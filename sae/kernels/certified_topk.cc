// Certified top-k. Per token: a floor that k lower ends are known to reach, and the list of latents
// whose upper ends reach it, in ascending id. The floor rises as chunks come in; what is left at
// the end is computed by ReferenceDot and cut exactly.
#include <algorithm>
#include <cmath>
#include <limits>

#include "sae/kernels/certified_workspace.h"

namespace sae::kernels {
namespace {

using Worker = CertifiedWorkspace::Worker;

class CertifiedSelector {
 public:
  CertifiedSelector(const EncodeInput<float>& input, CertifiedWorkspace& work, TopK<float>* out)
      : input_(input),
        work_(work),
        k_(out->width),
        limit_(std::min(input.latents, 2 * k_ + 1024)),
        room_(limit_ + kScreenLatents + kBoundsSlack),
        out_(out) {}

  void Block(std::int64_t block, int index) {
    Worker& worker = work_.workers[static_cast<std::size_t>(index)];
    Begin(worker);
    const std::int64_t token = block * kScreenTokens;
    const std::int64_t tokens = std::min(kScreenTokens, input_.tokens - token);
    std::int64_t rise = 1;  // after chunks 1, 4, 13, ...: each adds as many candidates as the last
    for (std::int64_t chunk = 0; chunk < input_.screen->chunks(); ++chunk) {
      input_.screen->Product(block, chunk, index, worker.z.data());
      for (std::int64_t r = 0; r < tokens; ++r) TakeRow(token + r, chunk, chunk == rise, worker);
      if (chunk == rise) rise = 3 * rise + 1;
    }
    for (std::int64_t r = 0; r < tokens; ++r) {
      if (worker.counts[static_cast<std::size_t>(r)] == kWhole) {
        worker.whole.push_back(static_cast<std::int32_t>(token + r));
      } else {
        Finish(token + r, worker);
      }
    }
  }

 private:
  static constexpr std::int64_t kWhole = -1;

  void Begin(Worker& worker) const {
    const auto entries = static_cast<std::size_t>(kScreenTokens * room_);
    if (worker.upper.size() < entries) {
      worker.upper.resize(entries);
      worker.lower.resize(entries);
      worker.ids.resize(entries);
    }
    const auto row = static_cast<std::size_t>(std::max(room_, kScreenLatents + kBoundsSlack));
    if (worker.values.size() < row) worker.values.resize(row);
    worker.counts.assign(static_cast<std::size_t>(kScreenTokens), 0);
    worker.floors.assign(static_cast<std::size_t>(kScreenTokens),
                         -std::numeric_limits<float>::infinity());
  }

  Bounded List(Worker& worker, std::int64_t r) const {
    return {worker.upper.data() + r * room_, worker.lower.data() + r * room_,
            worker.ids.data() + r * room_};
  }

  void TakeRow(std::int64_t token, std::int64_t chunk, bool rise, Worker& worker) const {
    const std::int64_t r = token % kScreenTokens;
    std::int64_t& count = worker.counts[static_cast<std::size_t>(r)];
    float& floor = worker.floors[static_cast<std::size_t>(r)];
    if (count == kWhole) return;
    const ScreenedRow row = ScreenedRowOf(input_, work_, worker.z.data(), token, chunk);
    if (!(row.slope < std::numeric_limits<float>::infinity())) {
      count = kWhole;
      return;
    }
    if (chunk == 0 && k_ <= row.size) {
      LowerEnds(row, worker.values.data());
      floor = ReachedBy(worker.values.data(), row.size, k_, k_ / 8, floor);
    }
    const Bounded list = List(worker, r);
    count += SiftFrom(row, floor, {list.upper + count, list.lower + count, list.ids + count});
    if ((rise && count >= k_) || count > limit_) count = Raise(list, count, k_ / 8, &floor);
    if (count > limit_) count = kWhole;
  }

  std::int64_t Raise(const Bounded& list, std::int64_t count, std::int64_t surplus,
                     float* floor) const {
    *floor = ReachedBy(list.lower, count, k_, surplus, *floor);
    return KeepFrom(list, count, *floor);
  }

  void Finish(std::int64_t token, Worker& worker) const {
    const std::int64_t r = token % kScreenTokens;
    const Bounded list = List(worker, r);
    float floor = worker.floors[static_cast<std::size_t>(r)];
    std::int64_t count = Raise(list, worker.counts[static_cast<std::size_t>(r)], 0, &floor);
    worker.did.candidates += count;
    float* values = worker.values.data();
    ReferenceDots(input_.d, input_.x + token * input_.d, input_.w, list.ids, count, values);
    for (std::int64_t j = 0; j < count; ++j) {
      values[j] = ReferenceZ(input_.scale, values[j], input_.c[list.ids[j]]);
      list.ids[j] += static_cast<std::int32_t>(input_.first_latent);
    }
    if (count > k_) CutExactly(values, list.ids, count);
    Write(values, list.ids, token, worker);
  }

  /// Leaves the first k, in their order: of values equal to the k-th those with the least ids.
  void CutExactly(float* values, std::int32_t* ids, std::int64_t count) const {
    const float bound = ReachedBy(values, count, k_, 0, -std::numeric_limits<float>::infinity());
    std::int64_t ties =
        k_ - std::count_if(values, values + count, [=](float v) { return v > bound; });
    std::int64_t kept = 0;
    for (std::int64_t j = 0; j < count; ++j) {
      if (values[j] < bound || (values[j] == bound && ties-- <= 0)) continue;
      values[kept] = values[j];
      ids[kept++] = ids[j];
    }
  }

  /// The k winners, sorted by id, in the order of the output.
  void Write(const float* values, const std::int32_t* ids, std::int64_t token,
             Worker& worker) const {
    float* to_values = out_->values.data() + token * k_;
    std::int32_t* to_ids = out_->ids.data() + token * k_;
    if (out_->order == TopKOrder::kById) {
      std::copy(values, values + k_, to_values);
      std::copy(ids, ids + k_, to_ids);
      return;
    }
    if (k_ <= kRankSort) {
      RankByValue(values, ids, k_, to_values, to_ids);
      return;
    }
    worker.order.clear();
    for (std::int64_t j = 0; j < k_; ++j) worker.order.push_back({values[j], ids[j]});
    std::sort(worker.order.begin(), worker.order.end(), Before<float>);
    for (std::int64_t j = 0; j < k_; ++j) {
      to_values[j] = worker.order[static_cast<std::size_t>(j)].value;
      to_ids[j] = worker.order[static_cast<std::size_t>(j)].id;
    }
  }

  const EncodeInput<float>& input_;
  CertifiedWorkspace& work_;
  const std::int64_t k_;
  const std::int64_t limit_;  ///< candidates a token may have after the floor was raised
  const std::int64_t room_;
  TopK<float>* const out_;
};

// Subsets are computed whole by the reference: here, all latents of some tokens.
bool SelectWhole(const EncodeInput<float>& input, EncodeWorkspace<float>* workspace,
                 TopK<float>* out, ThreadPool& pool) {
  CertifiedWorkspace& work = *workspace->certified;
  const auto tokens = static_cast<std::int64_t>(work.whole.size());
  if (tokens == 0) return true;
  const auto d = static_cast<std::size_t>(input.d);
  work.x.resize(work.whole.size() * d);
  for (std::size_t t = 0; t < work.whole.size(); ++t) {
    const float* row = input.x + work.whole[t] * input.d;
    std::copy(row, row + d, work.x.begin() + static_cast<std::ptrdiff_t>(t * d));
  }
  work.all.resize(static_cast<std::size_t>(input.latents));
  for (std::size_t i = 0; i < work.all.size(); ++i) work.all[i] = static_cast<std::int32_t>(i);
  EncodeInput<float> some = input;
  some.x = work.x.data();
  some.tokens = tokens;
  some.subset = work.all.data();
  some.subset_size = input.latents;
  const bool ok = EncodeTopK(some, out->width, workspace, &work.rest, pool, out->order);
  for (std::size_t t = 0; t < work.whole.size(); ++t) {
    const std::int64_t from = static_cast<std::int64_t>(t) * out->width;
    const std::int64_t to = work.whole[t] * out->width;
    std::copy_n(work.rest.values.begin() + from, out->width, out->values.begin() + to);
    std::copy_n(work.rest.ids.begin() + from, out->width, out->ids.begin() + to);
  }
  return ok;
}

}  // namespace

bool CertifiedTopK(const EncodeInput<float>& input, EncodeWorkspace<float>* workspace,
                   TopK<float>* out, ThreadPool& pool) {
  CertifiedWorkspace& work = BeginCertified(input, workspace, pool);
  CertifiedSelector selector(input, work, out);
  const auto blocks = [&](std::int64_t begin, std::int64_t end, int worker) {
    for (std::int64_t block = begin; block < end; ++block) selector.Block(block, worker);
  };
  RunBlocks(input.meeting, {input.screen->blocks(), kScreenGroup, blocks}, pool);
  work.did = {};
  work.whole.clear();
  for (const Worker& worker : work.workers) {
    work.did.candidates += worker.did.candidates;
    work.whole.insert(work.whole.end(), worker.whole.begin(), worker.whole.end());
  }
  work.did.whole = static_cast<std::int64_t>(work.whole.size());
  return SelectWhole(input, workspace, out, pool);
}

}  // namespace sae::kernels
