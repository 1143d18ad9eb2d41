#pragma once
// Cuts text into the pieces that byte-pair merging may not cross: the pre-tokenizer "smollm" of
// llama.cpp. First every character of category N stands alone; then, inside each part so cut,
// GPT-2's pattern
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
// matches from left to right (Radford et al. 2019; the look-ahead sees the end of the part).
// Pure, thread-safe.

#include <cstddef>
#include <string_view>
#include <vector>

namespace sae::lm {

/// Appends the end offset of every piece of `text` (well-formed UTF-8) to `ends`; pieces are
/// contiguous and cover the text.
void SplitPieces(std::string_view text, std::vector<std::size_t>& ends);

}  // namespace sae::lm
