#include "sae/lm/document_choice.h"

#include <algorithm>
#include <limits>
#include <numeric>
#include <utility>

#include "sae/base/random.h"

namespace sae::lm {

absl::StatusOr<DocumentChoice> ChooseDocuments(
    const Corpus& corpus, const Tokenizer& tokenizer, std::int64_t tokens, std::uint64_t seed,
    bool sorted, const std::function<bool(std::int64_t, std::int64_t)>& step) {
  if (corpus.size() > std::numeric_limits<std::int32_t>::max()) {
    return absl::InvalidArgumentError(absl::StrCat(corpus.path(), ": ", corpus.size(),
                                                   " documents; a store numbers them in 32 bits"));
  }
  std::vector<std::int32_t> order(static_cast<std::size_t>(corpus.size()));
  std::iota(order.begin(), order.end(), 0);
  if (tokens > 0) {
    Random random(seed);
    for (std::size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.Below(i)]);
  }
  DocumentChoice choice;
  std::vector<std::int32_t> ids;
  for (const std::int32_t document : order) {
    if (tokens > 0 && choice.tokens >= tokens) break;
    if (step && choice.documents.size() % 64 == 0) {
      const bool go_on =
          tokens > 0 ? step(choice.tokens, tokens)
                     : step(static_cast<std::int64_t>(choice.documents.size()), corpus.size());
      if (!go_on) return absl::CancelledError("stopped");
    }
    SAE_ASSIGN_OR_RETURN(const std::string text, corpus.Text(document));
    ids.clear();
    tokenizer.EncodeInto(text, ids, nullptr);
    auto count = static_cast<std::int64_t>(ids.size());
    if (tokens > 0 && choice.tokens + count > tokens) {
      choice.cut_document = document;
      count = choice.cut_tokens = tokens - choice.tokens;
    }
    choice.documents.push_back(document);
    choice.tokens += count;
    choice.text_bytes += static_cast<std::int64_t>(text.size() + 16 * ids.size());
  }
  if (choice.tokens == 0) {
    return absl::InvalidArgumentError(absl::StrCat(
        "corpus ", corpus.path(), " has no tokens in its ", corpus.size(), " documents"));
  }
  if (sorted) std::sort(choice.documents.begin(), choice.documents.end());
  return choice;
}

}  // namespace sae::lm
