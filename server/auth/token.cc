#include "server/auth/token.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <openssl/crypto.h>
#include <openssl/sha.h>
#include <sys/random.h>

#include "absl/strings/match.h"

namespace sae::server {
namespace {

constexpr char kPrefix[] = "saeloom_";
constexpr char kAlphabet[] = "0123456789abcdefghjkmnpqrstvwxyz";  // 32, no two alike
constexpr std::size_t kIdLength = 10;
constexpr std::size_t kSecretLength = 32;  // of 5 bits each

bool Spelled(const std::string& text, std::size_t length) {
  return text.size() == length && std::all_of(text.begin(), text.end(), [](char c) {
           return c != '\0' && std::string(kAlphabet).find(c) != std::string::npos;
         });
}

}  // namespace

absl::Status MachineEntropy(std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t n = ::getrandom(bytes.data(), bytes.size(), 0);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return ErrnoToStatus(errno, "getrandom");
    bytes = bytes.subspan(static_cast<std::size_t>(n));
  }
  return absl::OkStatus();
}

absl::StatusOr<NewToken> MakeToken(const Entropy& entropy) {
  std::array<std::byte, kIdLength + kSecretLength> bytes{};
  SAE_RETURN_IF_ERROR(entropy(bytes));
  TokenParts parts;
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    (i < kIdLength ? parts.id : parts.secret) +=
        kAlphabet[std::to_integer<unsigned>(bytes[i]) & 31];
  }
  return NewToken{parts.id, absl::StrCat(kPrefix, parts.id, "_", parts.secret), HashSecret(parts)};
}

std::optional<TokenParts> ParseToken(const std::string& text) {
  if (!absl::StartsWith(text, kPrefix)) return std::nullopt;
  const std::string rest = text.substr(sizeof kPrefix - 1);
  const std::size_t bar = rest.find('_');
  if (bar == std::string::npos) return std::nullopt;
  TokenParts parts{rest.substr(0, bar), rest.substr(bar + 1)};
  if (!Spelled(parts.id, kIdLength) || !Spelled(parts.secret, kSecretLength)) return std::nullopt;
  return parts;
}

std::string HashSecret(const TokenParts& token) {
  const std::string text = absl::StrCat(token.id, "_", token.secret);
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256(reinterpret_cast<const unsigned char*>(text.data()), text.size(), digest.data());
  std::string out;
  for (const unsigned char byte : digest) absl::StrAppend(&out, absl::Hex(byte, absl::kZeroPad2));
  return out;
}

bool SameHash(const std::string& a, const std::string& b) {
  return a.size() == b.size() && CRYPTO_memcmp(a.data(), b.data(), a.size()) == 0;
}

}  // namespace sae::server
