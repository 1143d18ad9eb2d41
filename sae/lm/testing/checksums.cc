#include "sae/lm/testing/checksums.h"

#include <array>
#include <bit>
#include <cmath>

namespace sae::lm::testing {
namespace {

using Block = std::array<std::uint8_t, 64>;
using State = std::array<std::uint32_t, 8>;

/// The first 32 bits of the fractional part of `root` of the first primes: FIPS 180-4's constants.
template <std::size_t N>
std::array<std::uint32_t, N> PrimeRoots(double (*root)(double)) {
  std::array<std::uint32_t, N> out{};
  std::size_t n = 0;
  for (unsigned p = 2; n < N; ++p) {
    bool prime = true;
    for (unsigned q = 2; q * q <= p; ++q) prime = prime && p % q != 0;
    if (!prime) continue;
    const double r = root(p);
    out[n++] = static_cast<std::uint32_t>((r - std::floor(r)) * 4294967296.0);
  }
  return out;
}

void Compress(State& h, const std::uint8_t* block, const std::array<std::uint32_t, 64>& k) {
  std::array<std::uint32_t, 64> w{};
  for (std::size_t i = 0; i < 16; ++i) {
    for (std::size_t j = 0; j < 4; ++j) w[i] = (w[i] << 8) | block[4 * i + j];
  }
  for (std::size_t i = 16; i < 64; ++i) {
    const std::uint32_t s0 = std::rotr(w[i - 15], 7) ^ std::rotr(w[i - 15], 18) ^ (w[i - 15] >> 3);
    const std::uint32_t s1 = std::rotr(w[i - 2], 17) ^ std::rotr(w[i - 2], 19) ^ (w[i - 2] >> 10);
    w[i] = w[i - 16] + s0 + w[i - 7] + s1;
  }
  State s = h;
  for (std::size_t i = 0; i < 64; ++i) {
    const std::uint32_t e1 = std::rotr(s[4], 6) ^ std::rotr(s[4], 11) ^ std::rotr(s[4], 25);
    const std::uint32_t t1 = s[7] + e1 + ((s[4] & s[5]) ^ (~s[4] & s[6])) + k[i] + w[i];
    const std::uint32_t e0 = std::rotr(s[0], 2) ^ std::rotr(s[0], 13) ^ std::rotr(s[0], 22);
    const std::uint32_t t2 = e0 + ((s[0] & s[1]) ^ (s[0] & s[2]) ^ (s[1] & s[2]));
    s = {t1 + t2, s[0], s[1], s[2], s[3] + t1, s[4], s[5], s[6]};
  }
  for (std::size_t i = 0; i < 8; ++i) h[i] += s[i];
}

}  // namespace

std::uint32_t Crc32(std::span<const std::byte> data) {
  std::array<std::uint32_t, 256> table{};
  for (std::uint32_t n = 0; n < 256; ++n) {
    std::uint32_t c = n;
    for (int k = 0; k < 8; ++k) c = (c & 1U) != 0 ? 0xEDB88320U ^ (c >> 1) : c >> 1;
    table[n] = c;
  }
  std::uint32_t crc = 0xFFFFFFFFU;
  for (const std::byte b : data)
    crc = table[(crc ^ static_cast<std::uint32_t>(b)) & 0xFFU] ^ (crc >> 8);
  return ~crc;
}

std::string Sha256(std::span<const std::byte> data) {
  const auto k = PrimeRoots<64>([](double x) { return std::cbrt(x); });
  State h = PrimeRoots<8>([](double x) { return std::sqrt(x); });
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(data.data());
  std::size_t i = 0;
  for (; i + 64 <= data.size(); i += 64) Compress(h, bytes + i, k);
  std::array<std::uint8_t, 128> tail{};
  const std::size_t left = data.size() - i;
  for (std::size_t j = 0; j < left; ++j) tail[j] = bytes[i + j];
  tail[left] = 0x80;
  const std::size_t tail_bytes = left < 56 ? 64 : 128;
  const std::uint64_t bits = static_cast<std::uint64_t>(data.size()) * 8;
  for (std::size_t j = 0; j < 8; ++j)
    tail[tail_bytes - 1 - j] = static_cast<std::uint8_t>(bits >> (8 * j));
  for (std::size_t j = 0; j < tail_bytes; j += 64) Compress(h, tail.data() + j, k);
  std::string out;
  for (const std::uint32_t word : h) {
    for (int shift = 28; shift >= 0; shift -= 4) out += "0123456789abcdef"[(word >> shift) & 0xFU];
  }
  return out;
}

std::string Sha256(const std::string& text) {
  return Sha256(std::as_bytes(std::span(text.data(), text.size())));
}

}  // namespace sae::lm::testing
