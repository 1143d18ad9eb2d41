#pragma once
// Runs a corpus through a language model up to a hook and writes what it finds there as an
// activation store. Rows of control tokens and of the first token of every attention span are left
// out (the latter is an attention sink of huge norm: spec of the model), and rows of outlying norm
// if asked. One thread calls; the model brings its own. The same corpus, model, options and
// processor give the same store. Nothing carries the store's name unless all of it is there.
// Errors: INVALID_ARGUMENT (options, an empty corpus), RESOURCE_EXHAUSTED before the first token is
// run when the disk is too small, CANCELLED when `stop` said so, and what model and writer return.

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/data/store_writer.h"
#include "sae/lm/corpus.h"
#include "sae/lm/language_model.h"
#include "sae/lm/norm_statistics.h"
#include "sae/lm/packing.h"
#include "sae/lm/tokenizer.h"

namespace sae::lm {

struct HarvestOptions {
  std::string out;
  std::string hook;
  /// Of the targets of a transcoder, stored beside each row; "" = none. Which rows are kept is
  /// decided by `hook` alone.
  std::string target_hook;
  std::int64_t context = 256;
  Packing packing = Packing::kMask;
  /// Tokens to run, from documents in an order that the seed shuffles; 0 = the whole corpus in its
  /// order. The last document is cut to fit.
  std::int64_t tokens = 0;
  DType dtype = DType::kBf16;
  bool shuffled = true;
  bool keep_first = false;
  std::optional<NormLimit> drop_norm_above;
  double heldout = 0.02;
  std::uint64_t seed = 0;
  Compute compute = Compute::kF32;  ///< what the model was loaded with: for the manifest
  std::string model_hash;           ///< likewise
  std::int64_t batch_tokens = 4096;
  /// Asked between batches.
  std::function<bool()> stop;
  /// `phase` is "count", "run" or "write".
  std::function<void(const std::string& phase, std::int64_t done, std::int64_t total)> progress;
};

struct HarvestReport {
  data::StoreManifest manifest;
  std::int64_t documents = 0;
  std::int64_t tokens = 0;
  std::int64_t separators = 0;
  absl::Duration run_time;  ///< of the forward passes and the writing beside them
  NormStatistics norms;     ///< of the rows that were kept
  double top_share = 0;     ///< of the sum of squares, held by the largest 0.1% of rows
  /// Empty, or what the user should know about the norms.
  std::string warning;
};

/// `clock` measures; `env` writes. All are borrowed for the call.
[[nodiscard]] absl::StatusOr<HarvestReport> Harvest(
    LanguageModel& model, const Tokenizer& tokenizer, const Corpus& corpus,
    const HarvestOptions& options, Clock& clock = RealClock(), Env& env = RealEnv());

}  // namespace sae::lm
