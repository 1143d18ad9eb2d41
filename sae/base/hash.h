#pragma once
// XXH3, the hash of stores, checkpoints and held-out selection.

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace sae {

/// 64-bit XXH3 of the bytes, with a seed.
std::uint64_t Xxh3(std::span<const std::byte> data, std::uint64_t seed = 0);
std::uint64_t Xxh3(const std::string& data, std::uint64_t seed = 0);

/// "xxh3:" and 16 hexadecimal digits: how a hash stands in a manifest.
std::string HashToText(std::uint64_t hash);

/// Incremental form; the same value as one call over all parts.
class Xxh3Stream {
 public:
  explicit Xxh3Stream(std::uint64_t seed = 0);
  ~Xxh3Stream();
  Xxh3Stream(const Xxh3Stream&) = delete;
  Xxh3Stream& operator=(const Xxh3Stream&) = delete;
  void Update(std::span<const std::byte> data);
  std::uint64_t Digest() const;

 private:
  void* state_;
};

}  // namespace sae
