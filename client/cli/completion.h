#pragma once
// Scripts that complete commands in a shell, from the tree of commands alone: verbs and flags stand
// in the script, names of sweeps and the like come from `saeloom __complete KIND WORD`. Pure.

#include <CLI/App.hpp>
#include <string>

namespace sae::cli {

/// "bash", "zsh" or "fish".
std::string CompletionScript(const CLI::App& tree, const std::string& shell);
/// What a verb's first argument is: "sweep", "trial", "queue", "worker", "context", "checkpoint",
/// "spec" (a file), ...; "" = it has none.
std::string ArgumentKind(const CLI::App& verb);

}  // namespace sae::cli
