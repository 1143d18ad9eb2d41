#pragma once
// Byte-level BPE (Sennrich et al. 2016; GPT-2's byte alphabet) with vocabulary and merges from a
// GGUF file: `tokenizer.ggml.model` gpt2, `tokenizer.ggml.pre` smollm. Adds no BOS, EOS or blank.
// Immutable after creation and thread-safe.
// Errors: UNIMPLEMENTED for another tokenizer model or pre-tokenizer (names it), DATA_LOSS for
// vocabulary or merges that contradict themselves, INVALID_ARGUMENT for an id outside the
// vocabulary.

#include <array>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "sae/base/status.h"
#include "sae/lm/gguf.h"

namespace sae::lm {

struct TokenizerData {
  std::vector<std::string> tokens;  ///< in the byte alphabet; control tokens as plain text
  std::vector<std::int64_t> types;  ///< 1 normal, 3 control
  std::vector<std::string> merges;  ///< "left right", lowest rank first
};

class Tokenizer {
 public:
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Tokenizer>> FromGguf(const GgufReader& gguf);
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<Tokenizer>> Create(TokenizerData data);

  std::int64_t size() const { return static_cast<std::int64_t>(bytes_.size()); }
  /// The token between packed documents: <|endoftext|> where there is one, else EOS, else -1.
  std::int32_t separator() const { return separator_; }
  bool IsControl(std::int32_t id) const { return control_[static_cast<std::size_t>(id)]; }
  /// The id of a control token's text, or -1.
  std::int32_t ControlId(const std::string& text) const;

  /// Ids of ordinary text: the text of a control token in it is text like any other. Ill-formed
  /// bytes count as U+FFFD (unicode.h).
  std::vector<std::int32_t> Encode(std::string_view text) const;
  /// As Encode, with occurrences of control tokens becoming their ids.
  std::vector<std::int32_t> EncodeWithControl(std::string_view text) const;
  /// Appends ids, and to `ends` (unless null) the offset in `text` at which each token ends. `text`
  /// must be well-formed (ReplaceInvalidUtf8).
  void EncodeInto(std::string_view text, std::vector<std::int32_t>& ids,
                  std::vector<std::int32_t>* ends) const;
  /// The bytes of the tokens, concatenated; not always well-formed UTF-8.
  [[nodiscard]] absl::StatusOr<std::string> Decode(std::span<const std::int32_t> ids) const;

 private:
  struct Merge {
    std::int32_t rank;
    std::int32_t symbol;
  };
  struct Scratch;

  Tokenizer() = default;
  [[nodiscard]] absl::Status Build(const TokenizerData& data);
  void MergePiece(std::string_view piece, std::size_t begin, Scratch& scratch,
                  std::vector<std::int32_t>& ids, std::vector<std::int32_t>* ends) const;
  const Merge* FindMerge(std::int32_t left, std::int32_t right) const;

  // A symbol is a byte, or what some merge makes or takes: its number is its own, since not every
  // symbol need be a token.
  std::array<std::int32_t, 256> byte_symbol_{};
  std::vector<std::int32_t> symbol_token_;  ///< id, or -1
  std::unordered_map<std::uint64_t, Merge> merges_;
  std::vector<std::string> bytes_;  ///< of each token, decoded
  std::vector<bool> control_;
  std::vector<std::int32_t> control_by_length_;  ///< longest text first
  std::int32_t separator_ = -1;
};

}  // namespace sae::lm
