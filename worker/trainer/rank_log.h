#pragma once
// Where a rank's words go: `rank-R.log` in the attempt's folder, appended. Under a launcher the process's
// standard output and error are turned to the file as a whole, so that a crash's last words are there too;
// rank 0 (and errors of every rank) still reach the terminal. Alone, they stay on the terminal and the log
// lines are copied. Sets up the process-wide logger; call once, in main.
// Errors: those of opening the file.

#include <string>

#include "sae/base/status.h"

namespace saeloom::trainer {

[[nodiscard]] absl::Status SetUpRankLog(const std::string& directory, int rank, bool under_launcher);

}  // namespace saeloom::trainer
