#pragma once
// What the command line sees of the outside: injected, so that a test runs whole commands in one
// process. Borrowed references must outlive the call. One thread.

#include <functional>
#include <iosfwd>
#include <memory>
#include <string>
#include <vector>

#include "sae/base/clock.h"
#include "sae/base/env.h"
#include "sae/base/signals.h"
#include "sae/base/status.h"

namespace sae::cli {

struct World {
  std::ostream& out;
  std::ostream& err;
  Clock& clock;
  Env& env;
  bool terminal = false;         ///< `out` is one: redraw in place
  std::function<int()> columns;  ///< of the terminal
  std::function<int()> rows;
  std::function<std::string(const std::string&)> variable;  ///< of the environment; "" = not set
  std::string directory;                                    ///< the current one, absolute
  std::string own_directory;  ///< of the program: siblings are looked up beside it
  /// Becomes another program; returns only when that fails.
  std::function<absl::Status(const std::vector<std::string>& argv)> exec;
  /// Catches Ctrl-C from now on; null in tests.
  std::function<std::unique_ptr<SignalWatcher>()> watch_signals;
  /// A new one each time, for calls that change something.
  std::function<std::string()> new_request_id;
};

}  // namespace sae::cli
