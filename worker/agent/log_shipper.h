#pragma once
// Answers FetchLogs: the last lines of rank logs, or those from a time on, or those that match,
// and, with follow, what is added to them. Thread-safe. Owns no thread: Step is called in a loop by
// one. At most one chunk of each log is in memory.

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "sae/base/mutex.h"
#include "worker/agent/log_filter.h"
#include "worker/agent/reporter.h"

namespace saeloom::agent {

class LogShipper {
 public:
  /// `runs`: whether the attempt's gang may still write.
  LogShipper(Reporter::Send send, std::function<bool(const AttemptKey&)> runs)
      : send_(std::move(send)), runs_(std::move(runs)) {}

  /// As Reporter's. A lost session ends every request: the reader asks the coordinator again.
  void SetSession(const SessionIdentity* identity);
  /// Idempotent by request number; `cancel` ends one.
  void Fetch(const v1::FetchLogs& command, const std::string& attempt_directory);
  /// One round over all requests. True when something was sent.
  bool Step();

 private:
  struct Request {
    AttemptKey key;
    std::string directory;
    std::set<int> ranks;  ///< empty = all
    int lines = 20;
    bool follow = false;
    std::map<int, std::int64_t> offsets;  ///< of each rank's log: sent up to here
    std::optional<LogFilter> filter;      ///< with since or grep: what each rank's begins as
    struct Filtered {
      LogFilter filter;
      bool tail = false;             ///< the end was not reached yet: only the last lines count
      std::deque<std::string> last;  ///< of them
    };
    std::map<int, Filtered> filtered;
  };
  /// Reads on in one rank's log. True when there was something to read.
  bool Read(Request& request, int rank, std::string& text) const;
  bool ReadFiltered(Request& request, int rank, bool may_grow, std::string& text) const;
  /// One round of one request; true when it has ended.
  bool StepOne(std::int64_t id, Request& request, bool* sent);
  absl::Status SendChunk(std::int64_t id, const Request& request, int rank, const std::string& text,
                         bool end);

  Reporter::Send send_;
  std::function<bool(const AttemptKey&)> runs_;
  sae::Mutex mu_;
  bool online_ ABSL_GUARDED_BY(mu_) = false;
  SessionIdentity identity_ ABSL_GUARDED_BY(mu_);
  std::map<std::int64_t, Request> requests_ ABSL_GUARDED_BY(mu_);
  std::set<std::int64_t> seen_ ABSL_GUARDED_BY(mu_);  ///< in this session
};

}  // namespace saeloom::agent
