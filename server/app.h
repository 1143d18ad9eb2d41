#pragma once
// saeloom-coordinator as a function: flags, start, wait for a signal, stop. Used by main alone.

namespace sae::server {

/// Returns the exit code: 0 ok; 2 usage; 4 permission; 5 in use, taken over, newer or foreign; 1 all else.
int CoordinatorMain(int argc, char** argv);

}  // namespace sae::server
