#include "worker/agent/failure_signs.h"

#include <array>
#include <regex>

namespace saeloom::agent {
namespace {
using namespace saeloom::v1;  // the failure classes

bool Has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

// As the kernel driver, the CUDA runtime and NCCL word them.
constexpr std::array kFaults = {
    "NVRM: Xid",
    "Xid (PCI",
    "fallen off the bus",
    "uncorrectable ECC",
    "cudaErrorECCUncorrectable",
    "cudaErrorIllegalAddress",
    "illegal memory access",
    "illegal instruction was encountered",
    "cudaErrorIllegalInstruction",
    "cudaErrorMisalignedAddress",
    "cudaErrorHardwareStackError",
    "cudaErrorLaunchFailure",
    "unspecified launch failure",
    "cudaErrorDevicesUnavailable",
};

bool DeviceMemoryRanOut(const std::string& text) {
  if (Has(text, "cudaErrorMemoryAllocation") || Has(text, "CUDA out of memory") ||
      Has(text, "CUDA error: out of memory") || Has(text, "CUDA_ERROR_OUT_OF_MEMORY"))
    return true;
  // The device runtime's own words.
  static const std::regex kNeeds(R"(\d+ bytes needed, \d+ of \d+ free on )");
  return std::regex_search(text, kNeeds);
}

}  // namespace

std::optional<FailureClass> ClassOfLines(const std::string& text) {
  for (const char* fault : kFaults) {
    if (Has(text, fault)) return GPU_FAULT;
  }
  if (DeviceMemoryRanOut(text)) return OOM_GPU;
  return std::nullopt;
}

FailureClass ClassOfMessage(const std::string& m) {
  if (const auto device = ClassOfLines(m)) return *device;
  if (Has(m, "checkpoint") && (Has(m, "DATA_LOSS") || Has(m, "hash"))) return CHECKPOINT_UNREADABLE;
  if (Has(m, "INVALID_ARGUMENT") || Has(m, "UNIMPLEMENTED")) return INVALID_CONFIG;
  if (Has(m, "no progress") || Has(m, "DEADLINE_EXCEEDED")) return HANG;
  if (Has(m, "FAILED_PRECONDITION") || Has(m, "non-finite")) return USER_ERROR;
  if (Has(m, "RESOURCE_EXHAUSTED") && Has(m, "memory")) return OOM_HOST;
  return INTERNAL;
}

bool SaysDaemonLost(const std::string& launcher_output) {
  for (const char* words :
       {"lost communication with a remote daemon", "unable to reliably start one or more daemons",
        "daemon has unexpectedly failed", "died unexpectedly with status"}) {
    if (Has(launcher_output, words)) return true;
  }
  return false;
}

std::string PeerTrouble(const std::string& launcher_output) {
  static const std::regex kLine(R"((?:^|\n)saeloom-rsh: ([^\n]+))");
  std::smatch match;
  return std::regex_search(launcher_output, match, kLine) ? match[1].str() : "";
}

std::optional<int> ExitFromLauncher(const std::string& launcher_output) {
  struct Pattern {
    const char* text;
    int base;
  };
  for (const Pattern& pattern :
       {Pattern{R"(exited on signal (\d+))", 128}, Pattern{R"(with errorcode (\d+))", 0},
        Pattern{R"(Exit code:\s+(\d+))", 0}}) {
    std::smatch match;
    if (std::regex_search(launcher_output, match, std::regex(pattern.text)))
      return pattern.base + std::stoi(match[1]);
  }
  return SaysDaemonLost(launcher_output) ? std::optional(205) : std::nullopt;
}

}  // namespace saeloom::agent
