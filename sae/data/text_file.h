#pragma once
// texts.jsonl.zst of a store: one JSON object a line, {"document", "text", "tokens", "token_ends"},
// zstd-compressed as one stream. Each class: one thread at a time.
// Errors: DATA_LOSS for a damaged or cut-short file (names path and line), those of Env.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "sae/base/env.h"
#include "sae/base/status.h"
#include "sae/data/store_manifest.h"

namespace sae::data {

struct StoreText {
  std::int32_t document = 0;
  std::string text;  ///< UTF-8
  std::vector<std::int32_t>
      token_ids;  ///< of the whole document: token_ids[position] is a row's token
  /// Byte offset in `text` at which each token ends; empty if unknown. Lets examples mark the token
  /// in its text without the model's tokenizer.
  std::vector<std::int32_t> token_ends;
};

class TextWriter {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<TextWriter>> Create(Env& env,
                                                                          const std::string& path);
  ~TextWriter();
  TextWriter(const TextWriter&) = delete;
  TextWriter& operator=(const TextWriter&) = delete;
  /// INVALID_ARGUMENT when token_ends is neither empty nor as long as token_ids.
  [[nodiscard]] absl::Status Add(const StoreText& text);
  /// Ends the stream, syncs, and returns the file's entry for the manifest (`file` is for the
  /// caller to set).
  [[nodiscard]] absl::StatusOr<StoreShard> Finish();

 private:
  class Impl;
  explicit TextWriter(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

/// Calls `visit` for each text in file order until it returns false.
[[nodiscard]] absl::Status ReadTexts(const std::string& path,
                                     const std::function<bool(StoreText)>& visit);

}  // namespace sae::data
