#pragma once
// A block of lines at the end of the output that is redrawn in place, with permanent lines
// scrolling above it. Where the output is no terminal there is no block. Borrows the stream; one
// thread.

#include <ostream>
#include <string>
#include <vector>

namespace sae::cli {

class Screen {
 public:
  Screen(std::ostream& out, bool terminal) : out_(out), terminal_(terminal) {}
  bool terminal() const { return terminal_; }
  /// Permanent lines.
  void Print(const std::vector<std::string>& lines);
  /// Replaces the block. Does nothing where the output is no terminal.
  void Draw(const std::vector<std::string>& lines);

 private:
  void Erase();

  std::ostream& out_;
  bool terminal_;
  std::vector<std::string> block_;
};

}  // namespace sae::cli
