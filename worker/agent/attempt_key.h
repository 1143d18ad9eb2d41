#pragma once
// Names one attempt of a trial. A plain value.

#include <compare>
#include <string>

#include "absl/strings/str_cat.h"

namespace saeloom::agent {

struct AttemptKey {
  std::string sweep;  ///< bare names: folders
  std::string trial;
  int attempt = 0;
  auto operator<=>(const AttemptKey&) const = default;
  /// "demo/0003/1": in messages and in the environment of the gang.
  std::string Text() const { return absl::StrCat(sweep, "/", trial, "/", attempt); }
};

/// Of any message that has sweep, trial and attempt.
template <class Proto>
AttemptKey KeyOf(const Proto& m) {
  return {m.sweep(), m.trial(), m.attempt()};
}
template <class Proto>
void SetKey(const AttemptKey& key, Proto* m) {
  m->set_sweep(key.sweep);
  m->set_trial(key.trial);
  m->set_attempt(key.attempt);
}

}  // namespace saeloom::agent
