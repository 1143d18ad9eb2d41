#pragma once
// Which documents of a corpus are harvested, and how many tokens that is: one pass of the
// tokenizer, so that disk and time are known before the model runs. Pure but for the corpus;
// thread-safe.

#include <cstdint>
#include <functional>
#include <vector>

#include "sae/base/status.h"
#include "sae/lm/corpus.h"
#include "sae/lm/tokenizer.h"

namespace sae::lm {

struct DocumentChoice {
  std::vector<std::int32_t> documents;  ///< in the order in which they are run
  std::int64_t tokens = 0;
  std::int64_t text_bytes = 0;  ///< of texts and of token ids
  /// Tokens of the last-chosen document, if it is cut.
  std::int32_t cut_document = -1;
  std::int64_t cut_tokens = 0;
};

/// Documents in the order that `seed` shuffles until they hold `tokens` tokens, or, with 0 tokens,
/// all in the corpus's order. `sorted` puts a sample back in the corpus's order. `step` is called
/// now and then with what is done and what there is; false stops with CANCELLED.
[[nodiscard]] absl::StatusOr<DocumentChoice> ChooseDocuments(
    const Corpus& corpus, const Tokenizer& tokenizer, std::int64_t tokens, std::uint64_t seed,
    bool sorted, const std::function<bool(std::int64_t done, std::int64_t total)>& step);

}  // namespace sae::lm
