#include "client/cli/screen.h"

namespace sae::cli {

void Screen::Erase() {
  // Up to the block's first line, then clear to the end of the screen.
  if (!block_.empty()) out_ << "\x1b[" << block_.size() << "A\r\x1b[J";
}

void Screen::Print(const std::vector<std::string>& lines) {
  if (lines.empty()) return;
  Erase();
  for (const std::string& line : lines) out_ << line << '\n';
  for (const std::string& line : block_) out_ << line << '\n';
  out_.flush();
}

void Screen::Draw(const std::vector<std::string>& lines) {
  if (!terminal_ || lines == block_) return;
  Erase();
  block_ = lines;
  for (const std::string& line : block_) out_ << line << '\n';
  out_.flush();
}

}  // namespace sae::cli
