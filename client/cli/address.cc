#include "client/cli/address.h"

#include <algorithm>
#include <filesystem>

#include "absl/strings/ascii.h"
#include "absl/strings/numbers.h"

namespace sae::cli {

absl::StatusOr<Address> CheckAddress(const std::string& text, const std::string& origin) {
  const std::string target(absl::StripAsciiWhitespace(text));
  const std::size_t colon = target.rfind(':');
  int port = 0;
  if (colon == std::string::npos || colon == 0 ||
      !absl::SimpleAtoi(target.substr(colon + 1), &port) || port < 1 || port > 65535) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", target, "' (from ", origin, ") is not HOST:PORT"));
  }
  return Address{target, origin};
}

absl::StatusOr<Address> FindAddressFile(const World& world) {
  for (std::filesystem::path at = world.directory;; at = at.parent_path()) {
    const std::string file = (at / ".saeloom" / "address").string();
    if (auto text = world.env.Read(file); text.ok()) return CheckAddress(*text, file);
    if (at == at.parent_path()) break;
  }
  return absl::UnavailableError(
      "no coordinator is known: start one with `saeloom up` in this folder, or name one with "
      "--server HOST:PORT, $SAELOOM_ADDR or `saeloom context set`");
}

}  // namespace sae::cli
