#include "worker/agent/log_filter.h"

#include <algorithm>
#include <re2/re2.h>
#include <utility>

namespace saeloom::agent {
namespace {
constexpr std::size_t kStamp = 23;             // 2026-01-31T12:34:56.789
constexpr std::size_t kLongestLine = 1 << 20;  // longer ones are cut into lines of this length
}  // namespace

std::optional<absl::Time> TimeOfLine(const std::string& line) {
  if (line.size() < kStamp || line[4] != '-' || line[10] != 'T') return std::nullopt;
  absl::Time time;
  std::string error;
  if (!absl::ParseTime("%Y-%m-%dT%H:%M:%E*S", line.substr(0, kStamp), absl::LocalTimeZone(), &time,
                       &error))
    return std::nullopt;
  return time;
}

absl::StatusOr<LogFilter> LogFilter::Make(std::optional<absl::Time> since,
                                          const std::string& grep) {
  LogFilter filter;
  filter.since_ = since;
  filter.started_ = !since.has_value();
  if (grep.empty()) return filter;
  auto expression = std::make_shared<const re2::RE2>(grep, re2::RE2::Quiet);
  if (!expression->ok()) {
    return absl::InvalidArgumentError("grep: \"" + grep +
                                      "\" is no RE2 pattern: " + expression->error());
  }
  filter.grep_ = std::move(expression);
  return filter;
}

bool LogFilter::Wanted(const std::string& line) {
  if (since_) {
    if (const auto time = TimeOfLine(line)) started_ = *time >= *since_;
  }
  return started_ && (grep_ == nullptr || re2::RE2::PartialMatch(line, *grep_));
}

std::vector<std::string> LogFilter::Add(const std::string& text) {
  std::vector<std::string> out;
  rest_ += text;
  std::size_t at = 0;
  while (at < rest_.size()) {
    const std::size_t end = rest_.find('\n', at);
    if (end == std::string::npos && rest_.size() - at < kLongestLine) break;
    const std::size_t size =
        std::min(end == std::string::npos ? rest_.size() - at : end - at, kLongestLine);
    std::string line = rest_.substr(at, size);
    at += size + (at + size == end ? 1 : 0);
    if (Wanted(line)) out.push_back(std::move(line));
  }
  rest_.erase(0, at);
  return out;
}

std::vector<std::string> LogFilter::Finish() {
  std::string line = std::exchange(rest_, {});
  if (line.empty() || !Wanted(line)) return {};
  return {std::move(line)};
}

}  // namespace saeloom::agent
