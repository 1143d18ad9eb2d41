#pragma once
// What log lines and messages of a gang say about why it failed. Pure. Only lines of the trainer,
// its libraries, mpirun and the driver are ever looked at, and only when the gang failed.

#include <optional>
#include <string>

#include "saeloom/v1/sweep.pb.h"

namespace saeloom::agent {

/// GPU_FAULT: the driver's XID, an uncorrectable ECC error, or a CUDA error after which the device
/// is of no use to the process. OOM_GPU: device memory ran out. nullopt: neither. A fault stands
/// over what follows from it.
std::optional<v1::FailureClass> ClassOfLines(const std::string& text);

/// By the status code that the trainer's message begins with, as absl prints it, and what it is
/// about.
v1::FailureClass ClassOfMessage(const std::string& message);

/// mpirun says that it lost a daemon on another host, or could not start one.
bool SaysDaemonLost(const std::string& launcher_output);

/// What saeloom-rsh said of a peer that it could not use; "" when it said nothing.
std::string PeerTrouble(const std::string& launcher_output);

/// mpirun's exit code as its words tell it, where nobody waited for it: the signal or code of the
/// first rank that failed, as a shell shows it.
std::optional<int> ExitFromLauncher(const std::string& launcher_output);

}  // namespace saeloom::agent
