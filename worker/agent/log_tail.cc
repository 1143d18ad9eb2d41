#include "worker/agent/log_tail.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>

namespace saeloom::agent {
namespace {
namespace fs = std::filesystem;

constexpr std::int64_t kWindow = 256 << 10;
constexpr int kRankLines = 80;
constexpr int kLauncherLines = 20;

/// mpirun frames its messages with dashes and empty lines.
bool SaysSomething(const std::string& line) {
  return line.find_first_not_of("- \t\r") != std::string::npos;
}

}  // namespace

std::vector<std::string> TailLines(const std::string& path, int lines, std::int64_t* end) {
  if (end != nullptr) *end = 0;
  std::error_code ec;
  const auto size = static_cast<std::int64_t>(fs::file_size(path, ec));
  if (ec) return {};
  const std::int64_t begin = std::max<std::int64_t>(0, size - kWindow);
  const std::string text = ReadFrom(path, begin, kWindow);
  if (end != nullptr) *end = begin + static_cast<std::int64_t>(text.size());
  std::vector<std::string> out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t stop = std::min(text.find('\n', at), text.size());
    out.push_back(text.substr(at, stop - at));
    at = stop + 1;
  }
  const std::size_t keep = static_cast<std::size_t>(std::max(0, lines));
  if (out.size() > keep) out.erase(out.begin(), out.end() - static_cast<std::ptrdiff_t>(keep));
  return out;
}

std::string ReadFrom(const std::string& path, std::int64_t offset, std::int64_t max_bytes) {
  std::ifstream in(path, std::ios::binary);
  if (!in) return "";
  in.seekg(offset);
  std::string text(static_cast<std::size_t>(max_bytes), '\0');
  in.read(text.data(), static_cast<std::streamsize>(text.size()));
  text.resize(static_cast<std::size_t>(std::max<std::streamsize>(0, in.gcount())));
  return text;
}

std::vector<std::string> FailureTail(const std::string& attempt_directory,
                                     std::optional<int> rank) {
  if (!rank) {
    const std::vector<int> ranks = RanksWithLogs(attempt_directory);
    if (!ranks.empty()) rank = ranks.front();
  }
  std::vector<std::string> out;
  if (rank) out = TailLines(RankLog(attempt_directory, *rank), kRankLines);
  const std::set<std::string> shown(out.begin(), out.end());
  int added = 0;
  for (std::string& line : TailLines(attempt_directory + "/launcher.log", 2 * kLauncherLines)) {
    if (added == kLauncherLines) break;
    // Rank 0's words reach the launcher's output, too.
    if (!SaysSomething(line) || shown.count(line) > 0) continue;
    out.push_back(std::move(line));
    ++added;
  }
  return out;
}

std::vector<int> RanksWithLogs(const std::string& attempt_directory) {
  std::vector<int> out;
  std::error_code ec;
  for (const auto& entry : fs::directory_iterator(attempt_directory, ec)) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("rank-", 0) == 0 && entry.path().extension() == ".log")
      out.push_back(std::atoi(name.c_str() + 5));
  }
  std::sort(out.begin(), out.end());
  return out;
}

std::string RankLog(const std::string& attempt_directory, int rank) {
  return attempt_directory + "/rank-" + std::to_string(rank) + ".log";
}

}  // namespace saeloom::agent
