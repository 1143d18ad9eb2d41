#include "worker/agent/command_names.h"

#include "sae/base/ids.h"

namespace saeloom::agent {
namespace {

template <class Proto>
absl::Status CheckTrial(const Proto& m) {
  SAE_RETURN_IF_ERROR(sae::ValidateName(m.sweep(), "sweep"));
  return sae::ValidateName(m.trial(), "trial");
}

template <class Proto>
absl::Status CheckAttempt(const Proto& m) {
  SAE_RETURN_IF_ERROR(CheckTrial(m));
  if (m.attempt() >= 1) return absl::OkStatus();
  return absl::InvalidArgumentError(absl::StrCat("attempt: ", m.attempt(), ", must be >= 1"));
}

}  // namespace

absl::Status CheckNames(const saeloom::v1::Command& command) {
  if (command.has_start()) {
    SAE_RETURN_IF_ERROR(CheckAttempt(command.start()));
    for (const auto& with : command.start().with()) SAE_RETURN_IF_ERROR(CheckAttempt(with));
  }
  if (command.has_stop()) return CheckAttempt(command.stop());
  if (command.has_logs()) {
    // One that ends a tail says no more than which.
    return command.logs().cancel() ? absl::OkStatus() : CheckAttempt(command.logs());
  }
  if (command.has_prepare()) return CheckAttempt(command.prepare());
  if (command.has_release()) return CheckAttempt(command.release());
  if (command.has_keep()) {
    SAE_RETURN_IF_ERROR(CheckTrial(command.keep()));
    return sae::ValidateName(command.keep().name(), "checkpoint");
  }
  if (command.has_delete_checkpoints()) {
    SAE_RETURN_IF_ERROR(CheckTrial(command.delete_checkpoints()));
    for (const std::string& name : command.delete_checkpoints().names())
      SAE_RETURN_IF_ERROR(sae::ValidateName(name, "checkpoint"));
  }
  return absl::OkStatus();
}

}  // namespace saeloom::agent
