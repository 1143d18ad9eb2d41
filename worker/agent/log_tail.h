#pragma once
// The ends of log files. Stateless. A file that is not there is empty.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace saeloom::agent {

/// The last `lines` complete or incomplete lines of `path`, looking at no more than its last 256
/// KiB. `end`, when given, gets the offset in bytes up to which the file was read.
std::vector<std::string> TailLines(const std::string& path, int lines, std::int64_t* end = nullptr);

/// Text of `path` from byte `offset` on, at most `max_bytes`; "" when there is none.
std::string ReadFrom(const std::string& path, std::int64_t offset, std::int64_t max_bytes);

/// What to show of a failed attempt: the last lines of rank-`rank`.log (of the first log there is
/// when rank is unknown), then what mpirun said, as far as it says something. At most 100 lines.
std::vector<std::string> FailureTail(const std::string& attempt_directory, std::optional<int> rank);

/// Ranks that have a log in this attempt's folder, ascending.
std::vector<int> RanksWithLogs(const std::string& attempt_directory);
std::string RankLog(const std::string& attempt_directory, int rank);

}  // namespace saeloom::agent
