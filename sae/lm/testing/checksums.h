#pragma once
// The checksums that golden files carry. Plain and slow: for tests only.

#include <cstdint>
#include <span>
#include <string>

namespace sae::lm::testing {

/// CRC-32 of zlib (polynomial 0xEDB88320).
std::uint32_t Crc32(std::span<const std::byte> data);
/// SHA-256 (FIPS 180-4) in lower-case hexadecimal.
std::string Sha256(std::span<const std::byte> data);
std::string Sha256(const std::string& text);

}  // namespace sae::lm::testing
