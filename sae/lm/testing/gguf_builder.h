#pragma once
// Builds small GGUF files (version 3) for tests: valid ones, and ones to damage.

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "sae/lm/dequant.h"

namespace sae::lm::testing {

class GgufBuilder {
 public:
  GgufBuilder& Text(const std::string& key, const std::string& value);
  GgufBuilder& Uint32(const std::string& key, std::uint32_t value);
  GgufBuilder& Float32(const std::string& key, float value);
  GgufBuilder& Texts(const std::string& key, const std::vector<std::string>& values);
  GgufBuilder& Int32s(const std::string& key, const std::vector<std::int32_t>& values);
  /// `dimensions` fastest first.
  GgufBuilder& Tensor(const std::string& name, const std::vector<std::int64_t>& dimensions,
                      GgmlType type, const std::string& bytes);
  GgufBuilder& Floats(const std::string& name, const std::vector<std::int64_t>& dimensions,
                      const std::vector<float>& values);
  std::string Build() const;

 private:
  struct Entry {
    std::string header;
    std::string data;
  };
  GgufBuilder& Key(const std::string& key, std::uint32_t type, const std::string& bytes);

  std::string keys_;
  std::uint64_t key_count_ = 0;
  std::vector<Entry> tensors_;
};

/// Writes `bytes` to a file of this name in the test's temporary folder and returns its path.
std::string WriteTemporary(const std::string& name, const std::string& bytes);

/// A Llama of 2 blocks, d 64, 2 query heads and 1 key/value head of size 32, MLP 96, with random
/// weights from `seed` and a tokenizer whose 258 tokens are two control tokens and the bytes. With
/// another type (of 32 values a block) than F32 the down projections are zero bytes of it.
GgufBuilder TinyLlama(std::uint64_t seed = 1, GgmlType down_type = GgmlType::kF32);

}  // namespace sae::lm::testing
