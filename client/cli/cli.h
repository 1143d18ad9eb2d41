#pragma once
// The whole command line as a function, so that main() is thin and a test can call it. Returns the
// exit code.

#include <string>
#include <vector>

#include "client/cli/world.h"

namespace sae::cli {

/// `args` without argv[0].
int RunCli(const std::vector<std::string>& args, World& world);

}  // namespace sae::cli
