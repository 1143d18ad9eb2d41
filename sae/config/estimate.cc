// What a trial takes in memory and on disk, before it runs.

#include <algorithm>

#include "sae/config/dense_density.h"
#include "sae/config/mesh.h"
#include "sae/config/run_config.h"

namespace sae::config {
namespace {

constexpr std::int64_t kFloat = 4;
/// Bytes of an entry of the codes: by token, by latent, with its gradient. Gated keeps two
/// pre-activations and both of their gradients.
constexpr std::int64_t kEntry = 16, kGatedEntry = 40;
constexpr std::int64_t kChunk = 512;         ///< tokens and latents of a chunk of the encoder
/// Share of latents that can be in a token's codes: relu_l1's and gated's at the start, where no
/// step is dense; jumprelu's, with the window around the thresholds.
constexpr double kStartDensity = 0.5, kJumpReluDensity = 0.1;
/// Of a store: the window being read, the one ahead and the one being filled.
constexpr std::int64_t kWindows = 3, kWindowBytes = std::int64_t{32} << 20;
/// Rows from which scales and biases are set at the start.
constexpr std::int64_t kSampleRows = 32768;

struct Shape {
  std::int64_t latents = 0;  ///< of this rank
  std::int64_t d = 0, d_out = 0;
  std::int64_t batch = 0;     ///< of this replica
  std::int64_t replicas = 1;
  bool ranked = false;  ///< topk, batchtopk, matryoshka
};

Shape ShapeOf(const TrialConfig& c, std::int64_t d, std::int64_t target_d) {
  Shape s;
  s.replicas = Replicas(c);
  s.latents = c.sae.latents * s.replicas / std::max<std::int64_t>(c.ranks, 1);
  s.d = d;
  s.d_out = c.sae.transcoder && target_d > 0 ? target_d : d;
  s.batch = c.train.batch / s.replicas;
  s.ranked = c.sae.architecture == "topk" || c.sae.architecture == "batchtopk" ||
             c.sae.architecture == "matryoshka";
  return s;
}

/// Floats of one set of parameters: two matrices, vectors of latents, what all ranks hold alike.
std::int64_t Parameters(const SaeConfig& sae, const Shape& s, std::int64_t latents) {
  const std::int64_t vectors = sae.architecture == "gated"      ? 3   // b_enc, b_mag, r_mag
                               : sae.architecture == "jumprelu" ? 2   // b_enc, threshold
                                                                : 1;  // b_enc
  const std::int64_t skip = sae.skip ? s.d_out * s.d : 0;
  return latents * (s.d + s.d_out + vectors) + s.d_out + skip;
}

/// Both moments of `latents` latents and of what all ranks hold alike, in bytes.
std::int64_t Moments(const TrialConfig& c, const Shape& s, std::int64_t latents) {
  constexpr std::int64_t kBlock = 64;  ///< columns of a row that share a scale
  const std::int64_t matrices = latents * (s.d + s.d_out);
  std::int64_t bytes = matrices * kFloat;
  if (c.train.moments == "bf16") bytes = matrices * 2;
  if (c.train.moments == "int8") {
    const std::int64_t scales = (s.d + kBlock - 1) / kBlock + (s.d_out + kBlock - 1) / kBlock;
    bytes = matrices + latents * scales * kFloat;
  }
  return 2 * ((Parameters(c.sae, s, latents) - matrices) * kFloat + bytes);
}

/// The mean of parameters, where one is kept.
std::int64_t Mean(const TrialConfig& c, const Shape& s, std::int64_t latents) {
  return c.train.ema > 0 ? Parameters(c.sae, s, latents) * kFloat : 0;
}

std::int64_t Codes(const TrialConfig& c, const Shape& s) {
  std::int64_t width = 0;  // entries a token
  if (s.ranked) {
    const std::int64_t decoded = c.sae.multi_topk ? 5 * c.sae.k : c.sae.k;
    width = std::min(s.latents, decoded) + std::min(s.latents, c.sae.aux_k.value_or(0));
  } else {
    const double density = c.sae.architecture == "jumprelu"
                               ? kJumpReluDensity
                               : std::min(kStartDensity, DenseDensity(c));
    width = std::max<std::int64_t>(
        1, static_cast<std::int64_t>(density * static_cast<double>(s.latents)));
  }
  return s.batch * width * (c.sae.architecture == "gated" ? kGatedEntry : kEntry);
}

/// Windows of the store, and the sample of the start: both in rows [x | y].
std::int64_t Data(const TrialConfig& c, const Shape& s) {
  const std::int64_t width = s.d + (c.sae.transcoder ? s.d_out : 0);
  const double targets = s.d > 0 ? static_cast<double>(width) / static_cast<double>(s.d) : 1;
  const auto rows = static_cast<std::int64_t>(std::min<double>(kSampleRows, c.train.tokens));
  // After the start the sample's place is the batch's, with the next one read meanwhile.
  return static_cast<std::int64_t>(targets * static_cast<double>(kWindows * kWindowBytes)) +
         std::max(rows, 2 * s.batch) * width * kFloat;
}

/// A block of tokens x latents, two of gated, each of 16 MiB or 64 tokens, and as much as one for
/// the threads' parts of the backward; the gradients of both matrices; parts of a block's
/// reconstruction; a bit a code.
std::int64_t DensePhase(const Shape& s, bool gated) {
  const std::int64_t tokens = (std::int64_t{1} << 22) / std::max<std::int64_t>(1, s.latents);
  const std::int64_t block = std::min(s.batch, std::max<std::int64_t>(64, tokens));
  constexpr std::int64_t kParts = 8;
  return ((gated ? 3 : 2) * (block * s.latents + block * s.d_out) +
          kParts * std::min(block, kChunk) * s.d_out + s.latents * (s.d + s.d_out)) *
             kFloat +
         s.batch * s.latents / 8;
}

/// Of a latent, whatever the width: what makes narrow dictionaries of millions larger than their rows.
std::int64_t LatentBuffers(const TrialConfig& c) {
  constexpr std::int64_t kFolded = 4, kSums = 2 * 4, kNorm = 8, kFired = 1;
  constexpr std::int64_t kIndex = 2 * 8;          // of the entries by latent, and its counts
  constexpr std::int64_t kTerm = kIndex + 4 + 4;  // AuxK: an index, dead latents, sums of its gradient
  return kFolded + kSums + kNorm + kFired + kIndex + (c.sae.aux_k.value_or(0) > 0 ? kTerm : 0);
}

std::int64_t Buffers(const TrialConfig& c, const Shape& s) {
  // Input, target where it is another; reconstruction and error, and AuxK's.
  std::int64_t rows = s.d + (c.sae.transcoder ? s.d_out : 0) + 2 * s.d_out;
  if (c.sae.aux_k.value_or(0) > 0 || c.sae.multi_topk || c.sae.architecture == "gated") {
    rows += 2 * s.d_out;
  }
  if (c.sae.architecture == "matryoshka") {
    const auto prefixes = ParsePrefixes(c.sae.prefixes, c.sae.latents);
    if (prefixes.ok()) rows += static_cast<std::int64_t>(prefixes->size()) * s.d_out;
  }
  if (c.train.reduction == "fixed") rows += kVirtualBlocks * s.d_out;
  std::int64_t bytes = s.batch * rows * kFloat + kChunk * kChunk * kFloat + s.latents * LatentBuffers(c);
  if (HasDenseStep(c)) bytes += DensePhase(s, c.sae.architecture == "gated");
  if (c.train.selection == "certified") {
    // bf16 copies of encoder and batch; two norms of each row for the margin.
    bytes += (s.latents + s.batch) * (2 * s.d + 2 * kFloat);
  }
  return bytes;
}

/// Reduced rows of the owner, and one chunk of rows on its way (sae/train/engine/gradient_reducer.h).
std::int64_t Gradients(const Shape& s) {
  if (s.replicas == 1) return 0;
  const std::int64_t own = s.latents / s.replicas, row = s.d + s.d_out;
  const std::int64_t chunk =
      std::clamp<std::int64_t>((std::int64_t{1} << 20) / (row * s.replicas), 1, std::max<std::int64_t>(1, own));
  return (own + chunk * s.replicas) * row * kFloat;
}

/// Of a decoder cut by columns: what every rank holds of all ranks' codes (id, value, gradient, by
/// token and by latent, received and in order, 8 / L parts of each gradient), and norms of all rows;
/// less the rest of the rows of the batch, of which it has its columns only.
std::int64_t Columns(const TrialConfig& c, const Shape& s) {
  if (c.train.decoder_layout != "columns") return 0;
  constexpr std::int64_t kBlocks = 8, kMergedEntry = 56;
  const std::int64_t entries = Codes(c, s) / (c.sae.architecture == "gated" ? kGatedEntry : kEntry);
  const std::int64_t own = kBlocks / std::max<std::int64_t>(1, c.ranks);
  return entries * c.ranks * (kMergedEntry + own * kFloat) +
         c.sae.latents * (4 + 8 + 8 + (2 * kBlocks + 2) * kFloat);
}

}  // namespace

MemoryEstimate EstimateMemory(const TrialConfig& config, std::int64_t d, std::int64_t target_d) {
  const TrialConfig c = Resolve(config, d);
  const Shape s = ShapeOf(c, d, target_d);
  const std::int64_t parameters = Parameters(c.sae, s, s.latents);
  MemoryEstimate m;
  m.parameters = parameters * kFloat;
  // Moments lie with the owner of a row; the mean of parameters with every replica.
  m.optimizer = Moments(c, s, s.latents / s.replicas) + Mean(c, s, s.latents) + s.latents * 8;
  if (c.train.rows == "lazy") m.optimizer += 2 * s.latents * 8;  // last step of each row
  if (c.train.rows == "deferred") m.optimizer += s.latents * 8;  // of decoder rows
  m.codes = Codes(c, s) + Columns(c, s);
  m.gradients = Gradients(s);
  m.buffers = Buffers(c, s) + m.gradients;
  m.data = Data(c, s);
  return m;
}

std::int64_t EstimateCheckpointBytes(const TrialConfig& c, std::int64_t d, std::int64_t target_d) {
  const Shape s = ShapeOf(c, d, target_d);
  constexpr std::int64_t kHeaders = 1 << 16;
  const std::int64_t n = c.sae.latents;
  return Parameters(c.sae, s, n) * kFloat + Moments(c, s, n) + Mean(c, s, n) + n * 8 + kHeaders;
}

}  // namespace sae::config
