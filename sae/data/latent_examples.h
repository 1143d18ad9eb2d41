#pragma once
// The places of a store that excite latents most, with the text around them. Knows SAEs only as a
// callback that encodes rows, so any architecture and any format will do. One thread at a time.
// Errors: INVALID_ARGUMENT (a latent that is not there, no rows), FAILED_PRECONDITION (nothing
// fired), those of ActivationStore and of the callback.

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "sae/base/status.h"
#include "sae/data/store_reader.h"

namespace sae::data {

/// Emits (row in the block, latent, value > 0) for every active latent of a block [rows, d], in any
/// order.
using EmitCode = std::function<void(std::int64_t row, std::int64_t latent, float value)>;
using EncodeRows = std::function<absl::Status(std::span<const float> rows, const EmitCode& emit)>;

struct LatentExampleOptions {
  std::vector<std::int64_t> latents;  ///< which; empty = `count` chosen by MiddlingLatents
  std::int64_t count = 5;
  std::int64_t top = 5;  ///< examples a latent, each from another document
  Split split = Split::kTraining;
  std::int64_t max_rows = 200'000;                    ///< the first so many of the split; 0 = all
  std::int64_t tokens_before = 16, tokens_after = 8;  ///< of context
};

struct ActiveToken {
  std::int32_t position = 0;  ///< in the document
  float value = 0;
};

struct LatentExample {
  float value = 0;
  std::int64_t row = 0;        ///< in the split
  std::int32_t document = -1;  ///< -1 where the store has none
  std::int32_t position = -1;
  std::int32_t token_id = -1;
  /// The peak's token and what stands around it; empty where the store has no text or no token
  /// ends. Bytes of a character that tokens split are kept together.
  std::string before, peak, after;
  /// Every scanned token of the document on which the latent fired, by position.
  std::vector<ActiveToken> active;
};

struct LatentReport {
  std::int64_t latent = 0;
  std::int64_t fired = 0;  ///< rows
  double density = 0;      ///< fired / rows scanned
  double mean_when_active = 0;
  float max = 0;
  std::vector<LatentExample> examples;  ///< by falling value, then rising row
};

struct LatentReports {
  std::int64_t rows = 0;  ///< scanned
  std::vector<LatentReport> latents;
};

/// `count` latents of middling density: of those that fired on at least 10 rows (on any, when fewer
/// than `count` did), sorted by (rows fired, latent), the ones at ranks floor(n (0.25 + 0.5 (i +
/// 0.5) / count)).
std::vector<std::int64_t> MiddlingLatents(const std::vector<std::int64_t>& fired,
                                          std::int64_t count);

/// `latents` = size of the dictionary. Reads the rows once, and once before to choose latents.
[[nodiscard]] absl::StatusOr<LatentReports> FindLatentExamples(
    const ActivationStore& store, std::int64_t latents, const LatentExampleOptions& options,
    const EncodeRows& encode,
    const std::function<void(std::int64_t done, std::int64_t total)>& progress = nullptr);

}  // namespace sae::data
