#include "worker/agent/event_log.h"

#include <fstream>

namespace saeloom::agent {

absl::StatusOr<EventLog::Batch> EventLog::Read(std::int64_t first_seq, std::int64_t max_lines,
                                               std::int64_t max_bytes) {
  if (first_seq < seq_) {
    seq_ = 1;
    offset_ = 0;
  }
  Batch batch;
  std::ifstream in(path_, std::ios::binary);
  if (!in) return batch;
  in.seekg(offset_);
  std::int64_t seq = seq_;
  std::int64_t offset = offset_;
  std::int64_t bytes = 0;
  std::string line;
  while (static_cast<std::int64_t>(batch.lines.size()) < max_lines) {
    // getline reaches eof exactly when the line lacks its '\n'.
    if (!std::getline(in, line) || in.eof()) break;
    const std::int64_t size = static_cast<std::int64_t>(line.size()) + 1;
    if (seq >= first_seq) {
      if (!batch.lines.empty() && bytes + size > max_bytes) break;
      auto event = sae::config::ParseEvent(line);
      if (event.ok() && event->seq != seq) {
        event = absl::DataLossError(absl::StrCat("seq is ", event->seq));
      }
      if (!event.ok()) {
        if (!batch.lines.empty()) break;  // reported by the next call
        return absl::DataLossError(
            absl::StrCat(path_, ": line ", seq, ": ", event.status().message()));
      }
      batch.lines.push_back(line);
      batch.events.push_back(*std::move(event));
      bytes += size;
    }
    ++seq;
    offset += size;
    if (seq <= first_seq) {
      seq_ = seq;
      offset_ = offset;
    }
  }
  return batch;
}

std::optional<sae::config::Event> EventLog::Last() {
  std::ifstream in(path_, std::ios::binary | std::ios::ate);
  if (!in) return std::nullopt;
  const std::int64_t size = in.tellg();
  for (std::int64_t window = 64 << 10;; window *= 4) {
    const std::int64_t begin = std::max<std::int64_t>(0, size - window);
    std::string text(static_cast<std::size_t>(size - begin), '\0');
    in.clear();
    in.seekg(begin);
    in.read(text.data(), static_cast<std::streamsize>(text.size()));
    text.resize(static_cast<std::size_t>(in.gcount()));
    const std::size_t end = text.rfind('\n');
    const std::size_t before =
        end == std::string::npos || end == 0 ? std::string::npos : text.rfind('\n', end - 1);
    if (end != std::string::npos && (before != std::string::npos || begin == 0)) {
      const std::size_t start = before == std::string::npos ? 0 : before + 1;
      auto event = sae::config::ParseEvent(text.substr(start, end - start));
      return event.ok() ? std::optional(*std::move(event)) : std::nullopt;
    }
    if (begin == 0) return std::nullopt;
  }
}

}  // namespace saeloom::agent
