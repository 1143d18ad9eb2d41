#pragma once
// manifest.json of an activation store: what docs/formats/store.md describes, as a struct.
// Plain data. Errors: DATA_LOSS for JSON that is damaged or contradicts itself (names path and
// field), UNIMPLEMENTED for a newer format version.

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "sae/base/dtype.h"
#include "sae/base/status.h"

namespace sae::data {

inline constexpr int kStoreFormatVersion = 1;
inline constexpr char kManifestFile[] = "manifest.json";
inline constexpr char kTextsFile[] = "texts.jsonl.zst";

struct StoreShard {
  std::string file;
  std::int64_t rows = 0;
  std::int64_t bytes = 0;
  std::string hash;  ///< HashToText of XXH3 of all bytes of the file
};

/// Where the rows came from; a field that does not apply stays empty or 0.
struct StoreOrigin {
  std::string kind;         ///< harvest | import | synthetic
  std::string model;        ///< name of the model, or the file the rows were imported from
  std::string model_hash;   ///< HashToText of the model file
  std::string hook;         ///< blocks.8.hook_resid_post
  std::string target_hook;  ///< of the targets: blocks.8.hook_mlp_out
  std::int64_t context = 0;
  std::string packing;  ///< mask | concat | none
  std::string compute;  ///< f32 | bf16
  /// Rows left out, by reason: {"position_0": 4211, "special_tokens": 12, "norm_above_10x": 0}.
  std::map<std::string, std::int64_t> dropped;
  /// Anything else worth keeping: {"corpus": "...", "corpus_hash": "..."}.
  std::map<std::string, std::string> notes;
};

struct StoreManifest {
  int format_version = kStoreFormatVersion;
  std::int64_t d = 0;
  std::int64_t target_d = 0;  ///< width of the targets beside the rows; 0 = there are none
  DType dtype = DType::kBf16;
  std::int64_t rows = 0;  ///< training rows: the sum over `shards`
  std::vector<StoreShard> shards;
  std::int64_t heldout_rows = 0;
  std::vector<StoreShard> heldout_shards;
  double heldout_fraction = 0;
  std::string heldout_by;  ///< document | row
  std::string order;       ///< shuffled | sequential
  std::uint64_t seed = 0;
  bool has_tokens = false;  ///< token_ids and positions stand beside the rows
  bool has_documents = false;
  StoreShard texts;                ///< rows = number of texts; file is empty where there are none
  std::vector<StoreShard> extras;  ///< other files of the store; rows = tensors in it
  StoreOrigin source;
  double mean_squared_norm = 0;  ///< over training rows as stored
  std::vector<double> mean;      ///< [d], over training rows as stored
  /// The same of the targets; 0 and empty without them.
  double target_mean_squared_norm = 0;
  std::vector<double> target_mean;
};

/// bf16 | f16 | f32.
std::string StoreDTypeName(DType dtype);
[[nodiscard]] absl::StatusOr<DType> ParseStoreDType(const std::string& name);

std::string ManifestToJson(const StoreManifest& manifest);
/// `path` is for messages.
[[nodiscard]] absl::StatusOr<StoreManifest> ManifestFromJson(const std::string& json,
                                                             const std::string& path);

}  // namespace sae::data
