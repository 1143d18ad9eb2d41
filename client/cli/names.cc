#include "client/cli/names.h"

#include "absl/strings/match.h"
#include "absl/strings/str_replace.h"
#include "absl/strings/str_split.h"

#include "proto/convert/sweep_convert.h"

namespace sae::cli {
namespace {

constexpr char kPrefix[] = "projects/default/sweeps/";

/// The parts of a short name; empty when it has not `count` of them.
std::vector<std::string> Parts(const std::string& text, std::size_t count) {
  std::vector<std::string> parts = absl::StrSplit(ShortName(text), '/');
  if (parts.size() != count) return {};
  for (const std::string& p : parts) {
    if (p.empty()) return {};
  }
  return parts;
}

}  // namespace

std::string ShortName(const std::string& name) {
  if (!absl::StartsWith(name, kPrefix)) return name;
  return absl::StrReplaceAll(name.substr(sizeof kPrefix - 1),
                             {{"/trials/", "/"}, {"/checkpoints/", "/"}});
}

absl::StatusOr<TrialReference> ParseTrialReference(const std::string& text) {
  const auto parts = Parts(text, 2);
  if (parts.empty()) {
    return absl::InvalidArgumentError(
        absl::StrCat("'", text, "' is not SWEEP/TRIAL, such as demo/0003"));
  }
  return TrialReference{parts[0], parts[1]};
}

absl::StatusOr<std::string> TrialResource(const std::string& text) {
  SAE_ASSIGN_OR_RETURN(const TrialReference ref, ParseTrialReference(text));
  return TrialName(ref.sweep, ref.trial);
}

absl::StatusOr<std::string> CheckpointResource(const std::string& text) {
  const auto parts = Parts(text, 3);
  if (parts.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "'", text, "' is not SWEEP/TRIAL/CHECKPOINT, such as demo/0003/step-000000000244"));
  }
  return absl::StrCat(TrialName(parts[0], parts[1]), "/checkpoints/", parts[2]);
}

absl::StatusOr<std::map<std::string, std::string>> ParsePairs(const std::vector<std::string>& texts,
                                                              const std::string& flag) {
  std::map<std::string, std::string> out;
  for (const std::string& text : texts) {
    const std::size_t at = text.find('=');
    if (at == std::string::npos || at == 0)
      return absl::InvalidArgumentError(absl::StrCat(flag, ": '", text, "' is not KEY=VALUE"));
    if (!out.emplace(text.substr(0, at), text.substr(at + 1)).second) {
      return absl::InvalidArgumentError(
          absl::StrCat(flag, ": ", text.substr(0, at), " is given twice"));
    }
  }
  return out;
}

}  // namespace sae::cli
