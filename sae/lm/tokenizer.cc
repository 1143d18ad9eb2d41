#include "sae/lm/tokenizer.h"

#include <algorithm>
#include <queue>
#include <utility>

#include "sae/lm/pretokenizer.h"
#include "sae/lm/unicode.h"

namespace sae::lm {
namespace {

constexpr std::int64_t kControlType = 3;

void AppendUtf8(std::string& out, char32_t c) {
  if (c < 0x80) {
    out += static_cast<char>(c);
  } else {  // the byte alphabet ends at U+0143
    out += static_cast<char>(0xC0 | (c >> 6));
    out += static_cast<char>(0x80 | (c & 0x3F));
  }
}

/// GPT-2's alphabet: printable bytes stand for themselves, the other 68 in order for U+0100,
/// U+0101, ...
std::array<char32_t, 256> ByteAlphabet() {
  std::array<char32_t, 256> out{};
  char32_t next = 0x100;
  for (unsigned b = 0; b < 256; ++b) {
    const bool printable = (b >= 0x21 && b <= 0x7E) || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
    out[b] = printable ? b : next++;
  }
  return out;
}

/// Text in the byte alphabet back to bytes; nothing when a character is outside it.
bool FromAlphabet(const std::string& text, const std::unordered_map<char32_t, char>& byte_of,
                  std::string& out) {
  out.clear();
  for (std::size_t i = 0; i < text.size();) {
    const DecodedChar c = DecodeUtf8(text, i);
    const auto it = byte_of.find(c.code_point);
    if (!c.valid || it == byte_of.end()) return false;
    out += it->second;
    i += static_cast<std::size_t>(c.bytes);
  }
  return true;
}

std::uint64_t PairKey(std::int32_t left, std::int32_t right) {
  return (static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32) |
         static_cast<std::uint32_t>(right);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::FromGguf(const GgufReader& gguf) {
  SAE_ASSIGN_OR_RETURN(const std::string model, gguf.Text("tokenizer.ggml.model"));
  SAE_ASSIGN_OR_RETURN(const std::string pre, gguf.Text("tokenizer.ggml.pre"));
  if (model != "gpt2" || pre != "smollm") {
    return absl::UnimplementedError(absl::StrCat(gguf.path(), ": tokenizer ", model,
                                                 " with pre-tokenizer ", pre,
                                                 " is not supported; gpt2 with smollm is"));
  }
  TokenizerData data;
  SAE_ASSIGN_OR_RETURN(data.tokens, gguf.Texts("tokenizer.ggml.tokens"));
  SAE_ASSIGN_OR_RETURN(data.types, gguf.Integers("tokenizer.ggml.token_type"));
  SAE_ASSIGN_OR_RETURN(data.merges, gguf.Texts("tokenizer.ggml.merges"));
  auto tokenizer = Create(std::move(data));
  if (!tokenizer.ok()) return Annotate(tokenizer.status(), gguf.path());
  if ((*tokenizer)->separator_ < 0 && gguf.Has("tokenizer.ggml.eos_token_id")) {
    SAE_ASSIGN_OR_RETURN(const std::int64_t eos, gguf.Integer("tokenizer.ggml.eos_token_id"));
    if (eos >= 0 && eos < (*tokenizer)->size())
      (*tokenizer)->separator_ = static_cast<std::int32_t>(eos);
  }
  return tokenizer;
}

absl::StatusOr<std::unique_ptr<Tokenizer>> Tokenizer::Create(TokenizerData data) {
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer);
  SAE_RETURN_IF_ERROR(tokenizer->Build(data));
  return tokenizer;
}

absl::Status Tokenizer::Build(const TokenizerData& data) {
  if (data.tokens.size() != data.types.size()) {
    return absl::DataLossError(absl::StrCat("tokenizer: ", data.tokens.size(), " tokens but ",
                                            data.types.size(), " token types"));
  }
  const std::array<char32_t, 256> alphabet = ByteAlphabet();
  std::unordered_map<char32_t, char> byte_of;
  for (int b = 0; b < 256; ++b)
    byte_of[alphabet[static_cast<std::size_t>(b)]] = static_cast<char>(b);

  std::unordered_map<std::string, std::int32_t> token_of;
  for (std::size_t id = 0; id < data.tokens.size(); ++id) {
    const bool control = data.types[id] == kControlType;
    std::string bytes;
    if (control || !FromAlphabet(data.tokens[id], byte_of, bytes)) bytes = data.tokens[id];
    bytes_.push_back(std::move(bytes));
    control_.push_back(control);
    if (control) {
      control_by_length_.push_back(static_cast<std::int32_t>(id));
      if (data.tokens[id] == "<|endoftext|>") separator_ = static_cast<std::int32_t>(id);
    } else {
      token_of.emplace(data.tokens[id], static_cast<std::int32_t>(id));
    }
  }
  std::stable_sort(control_by_length_.begin(), control_by_length_.end(),
                   [this](std::int32_t a, std::int32_t b) {
                     return bytes_[static_cast<std::size_t>(a)].size() >
                            bytes_[static_cast<std::size_t>(b)].size();
                   });

  std::unordered_map<std::string, std::int32_t> symbol_of;
  const auto symbol = [&](const std::string& text) {
    const auto [it, added] =
        symbol_of.emplace(text, static_cast<std::int32_t>(symbol_token_.size()));
    if (added) {
      const auto token = token_of.find(text);
      symbol_token_.push_back(token == token_of.end() ? -1 : token->second);
    }
    return it->second;
  };
  for (std::size_t b = 0; b < 256; ++b) {
    std::string text;
    AppendUtf8(text, alphabet[b]);
    byte_symbol_[b] = symbol(text);
  }
  for (std::size_t rank = 0; rank < data.merges.size(); ++rank) {
    const std::string& merge = data.merges[rank];
    const std::size_t blank = merge.find(' ');
    if (blank == std::string::npos || blank == 0 || blank + 1 == merge.size()) {
      return absl::DataLossError(
          absl::StrCat("tokenizer: merge ", rank, " (\"", merge, "\") is not two parts"));
    }
    const std::string left = merge.substr(0, blank);
    const std::string right = merge.substr(blank + 1);
    const std::uint64_t key = PairKey(symbol(left), symbol(right));
    merges_.emplace(key, Merge{static_cast<std::int32_t>(rank), symbol(left + right)});
  }
  return absl::OkStatus();
}

std::int32_t Tokenizer::ControlId(const std::string& text) const {
  for (const std::int32_t id : control_by_length_) {
    if (bytes_[static_cast<std::size_t>(id)] == text) return id;
  }
  return -1;
}

const Tokenizer::Merge* Tokenizer::FindMerge(std::int32_t left, std::int32_t right) const {
  const auto it = merges_.find(PairKey(left, right));
  return it == merges_.end() ? nullptr : &it->second;
}

/// A doubly linked list of the piece's symbols, and the possible merges by (rank, place).
struct Tokenizer::Scratch {
  struct Node {
    std::int32_t symbol, previous, next;
    std::int32_t end;  ///< offset in the piece
  };
  struct Candidate {
    std::int32_t rank, node, left, right;  ///< symbols, to notice that either side has merged since
    bool operator<(const Candidate& other) const {  // for a heap that pops the smallest
      return rank != other.rank ? rank > other.rank : node > other.node;
    }
  };
  std::vector<Node> nodes;
  std::priority_queue<Candidate> heap;
};

void Tokenizer::MergePiece(std::string_view piece, std::size_t begin, Scratch& scratch,
                           std::vector<std::int32_t>& ids, std::vector<std::int32_t>* ends) const {
  auto& nodes = scratch.nodes;
  auto& heap = scratch.heap;
  nodes.clear();
  const auto count = static_cast<std::int32_t>(piece.size());
  for (std::int32_t i = 0; i < count; ++i) {
    const auto byte = static_cast<unsigned char>(piece[static_cast<std::size_t>(i)]);
    nodes.push_back({byte_symbol_[byte], i - 1, i + 1 < count ? i + 1 : -1, i + 1});
  }
  const auto node = [&](std::int32_t i) -> Scratch::Node& {
    return nodes[static_cast<std::size_t>(i)];
  };
  const auto offer = [&](std::int32_t left) {
    if (left < 0 || node(left).next < 0) return;
    const std::int32_t right = node(left).next;
    if (const Merge* merge = FindMerge(node(left).symbol, node(right).symbol)) {
      heap.push({merge->rank, left, node(left).symbol, node(right).symbol});
    }
  };
  for (std::int32_t i = 0; i + 1 < count; ++i) offer(i);
  while (!heap.empty()) {
    const Scratch::Candidate best = heap.top();
    heap.pop();
    Scratch::Node& left = node(best.node);
    if (left.symbol != best.left || left.next < 0 || node(left.next).symbol != best.right) continue;
    Scratch::Node& right = node(left.next);
    left.symbol = FindMerge(best.left, best.right)->symbol;
    left.end = right.end;
    right.symbol = -1;  // gone: candidates that begin at it no longer match
    left.next = right.next;
    if (left.next >= 0) node(left.next).previous = best.node;
    offer(left.previous);
    offer(best.node);
  }
  for (std::int32_t i = count > 0 ? 0 : -1; i >= 0; i = node(i).next) {
    const std::int32_t id = symbol_token_[static_cast<std::size_t>(node(i).symbol)];
    if (id < 0) continue;  // a byte without a token vanishes, as in llama.cpp
    ids.push_back(id);
    if (ends != nullptr) ends->push_back(static_cast<std::int32_t>(begin) + node(i).end);
  }
}

void Tokenizer::EncodeInto(std::string_view text, std::vector<std::int32_t>& ids,
                           std::vector<std::int32_t>* ends) const {
  std::vector<std::size_t> pieces;
  SplitPieces(text, pieces);
  Scratch scratch;
  std::size_t begin = 0;
  for (const std::size_t end : pieces) {
    MergePiece(text.substr(begin, end - begin), begin, scratch, ids, ends);
    begin = end;
  }
}

std::vector<std::int32_t> Tokenizer::Encode(std::string_view text) const {
  std::vector<std::int32_t> ids;
  EncodeInto(ReplaceInvalidUtf8(text), ids, nullptr);
  return ids;
}

std::vector<std::int32_t> Tokenizer::EncodeWithControl(std::string_view text) const {
  struct Part {
    std::string_view text;
    std::int32_t id;  ///< -1: text
  };
  std::vector<Part> parts = {{text, -1}};
  for (const std::int32_t id : control_by_length_) {
    const std::string& control = bytes_[static_cast<std::size_t>(id)];
    std::vector<Part> cut;
    for (const Part& part : parts) {
      std::string_view rest = part.text;
      for (std::size_t at; part.id < 0 && (at = rest.find(control)) != std::string_view::npos;) {
        if (at > 0) cut.push_back({rest.substr(0, at), -1});
        cut.push_back({rest.substr(at, control.size()), id});
        rest.remove_prefix(at + control.size());
      }
      if (!rest.empty()) cut.push_back({rest, part.id});
    }
    parts = std::move(cut);
  }
  std::vector<std::int32_t> ids;
  for (const Part& part : parts) {
    if (part.id >= 0) {
      ids.push_back(part.id);
    } else {
      EncodeInto(ReplaceInvalidUtf8(part.text), ids, nullptr);
    }
  }
  return ids;
}

absl::StatusOr<std::string> Tokenizer::Decode(std::span<const std::int32_t> ids) const {
  std::string out;
  for (const std::int32_t id : ids) {
    if (id < 0 || id >= size()) {
      return absl::InvalidArgumentError(
          absl::StrCat("token id ", id, " is outside the vocabulary of ", size()));
    }
    out += bytes_[static_cast<std::size_t>(id)];
  }
  return out;
}

}  // namespace sae::lm
