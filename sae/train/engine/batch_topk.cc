#include "sae/train/engine/batch_topk.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <span>

#include "sae/kernels/batch_topk.h"
#include "sae/train/engine/global_topk.h"
#include "sae/train/engine/step_rules.h"
#include "sae/train/engine/topk.h"

namespace sae::train {
namespace {
constexpr double kFloorShare = 0.8;
std::size_t Size(std::int64_t n) { return static_cast<std::size_t>(n); }
}  // namespace

template <class T>
BatchTopKActivation<T>::BatchTopKActivation(const Context& context) : context_(context) {
  histogram_.resize(Size(kernels::RadixBins<T>(0)));
}

// Tokens of all replicas; sets first_token_.
template <class T>
absl::StatusOr<std::int64_t> BatchTopKActivation<T>::TokensOfAll(std::int64_t own,
                                                                 Phases* phases) {
  if (context_.replicas() == 1) return own;
  PhaseTimer timer(phases->exchange);
  tokens_.resize(Size(context_.replicas()));
  SAE_RETURN_IF_ERROR(context_.mesh.replicas().AllGather(std::span<const std::int64_t>(&own, 1),
                                                         std::span<std::int64_t>(tokens_)));
  const auto before = tokens_.begin() + context_.replica();
  first_token_ = std::accumulate(tokens_.begin(), before, std::int64_t{0});
  return std::accumulate(before, tokens_.end(), first_token_);
}

template <class T>
absl::StatusOr<std::int64_t> BatchTopKActivation<T>::Candidates(
    const kernels::EncodeInput<T>& input, std::int64_t kept,
    kernels::EncodeWorkspace<T>* workspace, Entries<T>* out, Phases* phases) {
  std::int64_t sums[2];
  {
    PhaseTimer timer(phases->encode);
    out->finite =
        kernels::EncodeLargest(input, kept, floor_, workspace, &out->codes, context_.pool);
    if (!out->finite) out->codes.Clear(input.tokens, input.latents);
    sums[0] = out->codes.nnz();
    sums[1] = out->finite ? 0 : 1;
  }
  PhaseTimer timer(phases->exchange);
  SAE_RETURN_IF_ERROR(context_.mesh.world().AllReduceSum(std::span<std::int64_t>(sums)));
  // A rank that saw NaN lets the loss show it; another pass would not help.
  return sums[1] > 0 ? std::max(sums[0], kept) : sums[0];
}

template <class T>
absl::StatusOr<T> BatchTopKActivation<T>::Cut(const kernels::Codes<T>& codes, std::int64_t kept,
                                              std::int64_t* ties, Phases* phases) {
  context_.mesh.world().SetPurpose("select.histogram");
  std::uint64_t prefix = 0;
  std::int64_t remaining = kept;
  std::int64_t in_bin = 0;
  for (int pass = 0; pass < kernels::kRadixPasses<T>; ++pass) {
    const std::int64_t bins = kernels::RadixBins<T>(pass);
    {
      PhaseTimer timer(phases->select);
      std::fill(histogram_.begin(), histogram_.end(), 0);
      kernels::RadixHistogram(codes.values.data(), codes.nnz(), pass, prefix, histogram_.data());
    }
    {
      PhaseTimer timer(phases->exchange);
      SAE_RETURN_IF_ERROR(context_.mesh.world().AllReduceSum(
          std::span<std::int64_t>(histogram_.data(), Size(bins))));
    }
    std::int64_t above = 0;
    const std::int64_t bin = kernels::RadixBin(histogram_.data(), bins, remaining, &above);
    in_bin = histogram_[Size(bin)];
    remaining -= above;
    prefix = prefix * static_cast<std::uint64_t>(bins) + static_cast<std::uint64_t>(bin);
  }
  *ties = remaining < in_bin ? remaining : -1;
  return kernels::RadixValue<T>(prefix);
}

template <class T>
absl::Status BatchTopKActivation<T>::ResolveTies(const kernels::Codes<T>& codes, T cut,
                                                 std::int64_t ties, Phases* phases) {
  keep_.clear();
  if (ties < 0) return absl::OkStatus();
  std::vector<std::int64_t>& own = own_ties_;  // token * n + global latent, ascending
  own.clear();
  for (std::int64_t b = 0; b < codes.tokens; ++b) {
    for (std::int64_t e = codes.indptr[Size(b)]; e < codes.indptr[Size(b) + 1]; ++e) {
      if (codes.values[Size(e)] == cut)
        own.push_back((first_token_ + b) * context_.shard.latents +
                      context_.shard.Global(codes.ids[Size(e)]));
    }
  }
  PhaseTimer timer(phases->exchange);
  context_.mesh.world().SetPurpose(kSelectTies);
  tie_counts_.resize(Size(context_.mesh.world().size()));
  // No rank can have more winners than there are: its first ones are enough.
  const auto size = std::min(static_cast<std::int64_t>(own.size()), ties);
  SAE_RETURN_IF_ERROR(context_.mesh.world().AllGather(std::span<const std::int64_t>(&size, 1),
                                                      std::span<std::int64_t>(tie_counts_)));
  std::vector<std::int64_t>& all = all_ties_;
  all.resize(Size(std::accumulate(tie_counts_.begin(), tie_counts_.end(), std::int64_t{0})));
  SAE_RETURN_IF_ERROR(
      context_.mesh.world().AllGatherV(own.data(), all.data(), tie_counts_, DType::kI64));
  std::nth_element(all.begin(), all.begin() + (ties - 1), all.end());
  const std::int64_t last = all[Size(ties - 1)];
  for (const std::int64_t key : own) keep_.push_back(key <= last ? 1 : 0);
  return absl::OkStatus();
}

template <class T>
absl::Status BatchTopKActivation<T>::FindSmallest(const Entries<T>& entries, Phases* phases) {
  double smallest = std::numeric_limits<double>::infinity();
  for (std::int64_t e = 0; e < entries.codes.nnz(); ++e)
    smallest = std::min(smallest, static_cast<double>(entries.codes.values[Size(e)]));
  PhaseTimer timer(phases->exchange);
  SAE_RETURN_IF_ERROR(
      context_.mesh.world().AllReduce(&smallest, 1, DType::kF64, comm::ReduceOp::kMin));
  smallest_ = smallest < std::numeric_limits<double>::infinity() ? smallest : 0;
  floor_ = static_cast<T>(kFloorShare * smallest_);
  return absl::OkStatus();
}

template <class T>
absl::Status BatchTopKActivation<T>::Encode(const kernels::EncodeInput<T>& input, bool training,
                                            kernels::EncodeWorkspace<T>* workspace,
                                            Entries<T>* out, Phases* phases) {
  out->weighted = false;
  // Before the first step there is no threshold: the batch's own cut stands in.
  if (!training && weight_ > 0) {
    PhaseTimer timer(phases->encode);
    out->finite = kernels::EncodeAbove(input, static_cast<const T*>(nullptr),
                                       static_cast<T>(theta()), workspace, &out->codes,
                                       context_.pool);
    return absl::OkStatus();
  }
  SAE_ASSIGN_OR_RETURN(const std::int64_t tokens, TokensOfAll(input.tokens, phases));
  const std::int64_t kept = context_.config.sae.k * tokens;
  SAE_ASSIGN_OR_RETURN(std::int64_t found, Candidates(input, kept, workspace, out, phases));
  if (found < kept && floor_ > T(0)) {
    floor_ = 0;
    SAE_ASSIGN_OR_RETURN(found, Candidates(input, kept, workspace, out, phases));
  }
  if (found > kept) {
    std::int64_t ties = 0;
    const int purpose = context_.mesh.world().purpose();
    SAE_ASSIGN_OR_RETURN(const T cut, Cut(out->codes, kept, &ties, phases));
    SAE_RETURN_IF_ERROR(ResolveTies(out->codes, cut, ties, phases));
    context_.mesh.world().RestorePurpose(purpose);
    PhaseTimer timer(phases->select);
    if (keep_.empty())
      keep_.assign(Size(std::count(out->codes.values.begin(),
                                   out->codes.values.begin() + out->codes.nnz(), cut)),
                   1);
    kernels::KeepFromCut(&out->codes, cut, keep_, context_.pool);
  }
  return training ? FindSmallest(*out, phases) : absl::OkStatus();
}

template <class T>
absl::StatusOr<PenaltyTerms> BatchTopKActivation<T>::Backward(const BackwardInput<T>&,
                                                              Entries<T>* entries,
                                                              LatentGradients<T>* gradients,
                                                              Phases* phases) {
  PhaseTimer timer(phases->backward);
  PassThrough(entries, gradients, context_.pool);
  return PenaltyTerms{};
}

template <class T>
void BatchTopKActivation<T>::Commit() {
  if (!(smallest_ > 0)) return;
  FoldThreshold(context_.config, smallest_, &mean_, &weight_);
}

template <class T>
void BatchTopKActivation<T>::AddState(model::State* state) {
  state->scalars.push_back({"batch_threshold", &mean_});
  state->scalars.push_back({"batch_threshold_weight", &weight_});
}

template <class T>
void BatchTopKActivation<T>::AddMetrics(std::map<std::string, double>* out) const {
  (*out)["batch_threshold"] = theta();
}

template class BatchTopKActivation<float>;
template class BatchTopKActivation<double>;

}  // namespace sae::train
