#pragma once
// Rewritings of an SAE that keep what it computes: of a scaled problem into raw units, of one form
// into another. Pure: each changes `sae` alone, computes in float64 and rounds once; thread-safe on
// distinct SAEs. Errors leave `sae` as it was: FAILED_PRECONDITION where the rewriting would change
// the codes' support, INVALID_ARGUMENT for an SAE that has no such form. Sources: Rajamanoharan et
// al. 2024 (scale, decoder norms; gated as JumpReLU: its threshold there lacks the max with 0 that
// a gate open at a negative magnitude needs); Bussmann et al. 2024 (BatchTopK's threshold).

#include "sae/base/status.h"
#include "sae/model/sae.h"

namespace sae::model {

/// Trained on x / S (a transcoder: y / S too): b_enc, b_dec, thresholds and gated's b_mag times S;
/// matrices and r_mag unchanged. Codes in raw units are S times those of training.
void FoldInputScale(double scale, Sae* sae);

/// Decoder rows of norm 1: W_dec_i / N_i; W_enc_i, b_enc_i, threshold_i, b_mag_i and the codes
/// times N_i. Rows whose norm is 1 to within 1e-6, or 0, stay as they are. topk ranks by z, which
/// this changes: FAILED_PRECONDITION where a row's norm is not 1, unless `norm_aware` says that
/// this SAE ranks (and reports) z_i N_i.
[[nodiscard]] absl::Status FoldDecoderNorms(Sae* sae, bool norm_aware = false);

/// v_i -> v_i / |v_i|, the encoder untouched: for decoders kept as v and used as directions. Zero
/// rows stay.
void NormaliseDecoder(Sae* sae);

/// s = 1 -> s = 0: W (x - b_dec) + b = W x + (b - W b_dec). Nothing where s = 0.
void FoldPreBias(Sae* sae);

/// batchtopk, matryoshka: `theta`, in this SAE's units, for all latents, rounded down, so that
/// every float is above the threshold exactly where it is above theta. INVALID_ARGUMENT unless 0 <
/// theta < inf.
[[nodiscard]] absl::Status SetBatchThreshold(double theta, Sae* sae);

/// The same function as architecture jumprelu. gated: W_i and b_mag_i with exp(r_i) taken in,
/// threshold_i = max(0, b_mag_i - exp(r_i) b_gate_i). relu_l1: thresholds 0. topk has no such form.
[[nodiscard]] absl::Status ToJumpRelu(Sae* sae);

}  // namespace sae::model
