#include "client/cli/tar.h"

#include <algorithm>
#include <numeric>

#include "absl/strings/str_format.h"

namespace sae::cli {
namespace {

constexpr std::size_t kBlock = 512;

void Put(std::string& header, std::size_t at, const std::string& text) {
  std::copy(text.begin(), text.end(), header.begin() + static_cast<std::ptrdiff_t>(at));
}

std::string Header(const std::string& name, std::size_t size, std::int64_t seconds) {
  std::string h(kBlock, '\0');
  Put(h, 0, name);
  Put(h, 100, "0000600");
  Put(h, 108, "0000000");
  Put(h, 116, "0000000");
  Put(h, 124, absl::StrFormat("%011o", size));
  Put(h, 136, absl::StrFormat("%011o", seconds));
  Put(h, 148, "        ");  // the checksum counts as blanks in its own sum
  Put(h, 156, "0");         // a file
  Put(h, 257, std::string("ustar\0", 6) + "00");
  const unsigned sum = std::accumulate(h.begin(), h.end(), 0U, [](unsigned total, char c) {
    return total + static_cast<unsigned char>(c);
  });
  Put(h, 148, absl::StrFormat("%06o", sum) + std::string("\0 ", 2));
  return h;
}

}  // namespace

absl::StatusOr<std::string> TarOf(const std::map<std::string, std::string>& files,
                                  std::int64_t seconds) {
  std::string out;
  for (const auto& [name, content] : files) {
    if (name.empty() || name.size() > 100 || name[0] == '/') {
      return absl::InvalidArgumentError(
          absl::StrCat("tar: '", name, "' is no relative path of at most 100 bytes"));
    }
    out += Header(name, content.size(), seconds) + content;
    out.resize((out.size() + kBlock - 1) / kBlock * kBlock, '\0');
  }
  return out + std::string(2 * kBlock, '\0');
}

}  // namespace sae::cli
