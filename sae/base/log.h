#pragma once
// Log lines of the daemons and the trainer: "time level [name] message" on standard error.
// LibTorch defines LOG and CHECK, so ours are functions. Thread-safe.

#include <spdlog/spdlog.h>

#include <string>

namespace sae {

/// Sets up the process-wide logger once, in main(): pattern, level from `level` ("debug", "info",
/// "warn", "error"; empty means $SAELOOM_LOG or info), and a flush after every line.
void InitLogging(const std::string& name, const std::string& level = "");

}  // namespace sae
