#pragma once
// BatchTopK and Matryoshka codes: the k B largest positive pre-activations of the whole batch, over
// all ranks, ties to the lower (token, global latent). After training a code is z > theta, theta the
// bias-corrected running mean of the smallest kept value. See activation.h. Sources: spec
// algorithms.md 3b.1; numerics.md 3.

#include <cstdint>
#include <vector>

#include "sae/train/engine/activation.h"

namespace sae::train {

template <class T>
class BatchTopKActivation final : public Activation<T> {
 public:
  explicit BatchTopKActivation(const Context& context);
  absl::Status Encode(const kernels::EncodeInput<T>& input, bool training,
                      kernels::EncodeWorkspace<T>* workspace, Entries<T>* out,
                      Phases* phases) override;
  absl::StatusOr<PenaltyTerms> Backward(const BackwardInput<T>& input, Entries<T>* entries,
                                        LatentGradients<T>* gradients, Phases* phases) override;
  void Commit() override;
  void AddState(model::State* state) override;
  void AddMetrics(std::map<std::string, double>* out) const override;

 private:
  [[nodiscard]] absl::StatusOr<std::int64_t> TokensOfAll(std::int64_t own, Phases* phases);
  /// Candidates of this rank; all ranks' number of them.
  [[nodiscard]] absl::StatusOr<std::int64_t> Candidates(const kernels::EncodeInput<T>& input,
                                                        std::int64_t kept,
                                                        kernels::EncodeWorkspace<T>* workspace,
                                                        Entries<T>* out, Phases* phases);
  /// The value of the `kept`-th candidate of all ranks; *ties = how many entries equal to it stay.
  [[nodiscard]] absl::StatusOr<T> Cut(const kernels::Codes<T>& codes, std::int64_t kept,
                                      std::int64_t* ties, Phases* phases);
  /// Marks which of this rank's entries equal to the cut stay.
  [[nodiscard]] absl::Status ResolveTies(const kernels::Codes<T>& codes, T cut, std::int64_t ties,
                                         Phases* phases);
  [[nodiscard]] absl::Status FindSmallest(const Entries<T>& entries, Phases* phases);
  double theta() const { return weight_ > 0 ? mean_ / weight_ : 0; }

  const Context& context_;
  T floor_ = 0;  // a guess below the next cut: saves work, changes nothing
  std::vector<std::int64_t> histogram_;
  std::vector<std::uint8_t> keep_;
  std::vector<std::int64_t> own_ties_, all_ties_, tie_counts_;  // of ResolveTies
  std::vector<std::int64_t> tokens_;  // of each replica
  std::int64_t first_token_ = 0;      // of this replica, in the batch of all
  double smallest_ = 0;  // kept value of the last training Encode, over all ranks; 0 = none
  double mean_ = 0, weight_ = 0;
};

}  // namespace sae::train
