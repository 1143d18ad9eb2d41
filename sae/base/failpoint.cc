#include "sae/base/failpoint.h"

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <unistd.h>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

#include "sae/base/clock.h"
#include "sae/base/mutex.h"

namespace sae {
namespace {

/// "sleep(500ms)" -> "500ms"; "" without brackets.
std::string Argument(const std::string& action) {
  const std::size_t open = action.find('(');
  if (open == std::string::npos || action.back() != ')') return "";
  return action.substr(open + 1, action.size() - open - 2);
}

absl::StatusOr<FailpointRule> ParseRule(const std::string& text) {
  const absl::Status bad = absl::InvalidArgumentError(
      absl::StrCat("SAELOOM_FAILPOINTS: \"", text,
                   "\" is not NAME=kill, exit(N), error or sleep(TIME), with @N after it or not"));
  FailpointRule rule;
  const std::size_t equals = text.find('=');
  if (equals == 0 || equals == std::string::npos) return bad;
  rule.name = text.substr(0, equals);
  std::string action = text.substr(equals + 1);
  if (const std::size_t at = action.find('@'); at != std::string::npos) {
    if (!absl::SimpleAtoi(action.substr(at + 1), &rule.at) || rule.at < 1) return bad;
    action.resize(at);
  }
  const std::string argument = Argument(action);
  if (action == "kill") {
    rule.action = FailpointRule::Action::kKill;
  } else if (action == "error") {
    rule.action = FailpointRule::Action::kError;
  } else if (action.rfind("exit(", 0) == 0 && absl::SimpleAtoi(argument, &rule.exit_code)) {
    rule.action = FailpointRule::Action::kExit;
  } else if (action.rfind("sleep(", 0) == 0 && absl::ParseDuration(argument, &rule.sleep)) {
    rule.action = FailpointRule::Action::kSleep;
  } else {
    return bad;
  }
  return rule;
}

/// The process's rules, and how often each point was passed.
class Failpoints {
 public:
  Failpoints() {
    const char* text = std::getenv("SAELOOM_FAILPOINTS");
    auto rules = ParseFailpoints(text == nullptr ? "" : text);
    if (!rules.ok()) {
      std::fprintf(stderr, "%s\n", Message(rules.status()).c_str());
      ::_exit(2);
    }
    for (FailpointRule& rule : *rules) rules_.emplace(rule.name, rule);
  }

  absl::Status Hit(const std::string& name) {
    FailpointRule rule;
    {
      MutexLock lock(mu_);
      const auto it = rules_.find(name);
      if (it == rules_.end()) return absl::OkStatus();
      rule = it->second;
      const int hit = ++hits_[name];
      if (rule.at != 0 && rule.at != hit) return absl::OkStatus();
    }
    switch (rule.action) {
      case FailpointRule::Action::kKill:
        ::raise(SIGKILL);
        break;
      case FailpointRule::Action::kExit:
        ::_exit(rule.exit_code);
      case FailpointRule::Action::kSleep:
        RealClock().SleepFor(rule.sleep);
        break;
      case FailpointRule::Action::kError:
        return absl::UnavailableError(absl::StrCat("failpoint ", name));
    }
    return absl::OkStatus();
  }

 private:
  Mutex mu_;
  std::map<std::string, FailpointRule> rules_ ABSL_GUARDED_BY(mu_);
  std::map<std::string, int> hits_ ABSL_GUARDED_BY(mu_);
};

}  // namespace

absl::StatusOr<std::vector<FailpointRule>> ParseFailpoints(const std::string& text) {
  std::vector<FailpointRule> rules;
  for (const std::string& one : std::vector<std::string>(absl::StrSplit(text, ';'))) {
    if (one.empty()) continue;
    SAE_ASSIGN_OR_RETURN(FailpointRule rule, ParseRule(one));
    rules.push_back(std::move(rule));
  }
  return rules;
}

absl::Status HitFailpoint(const char* name) {
  // The environment does not change after the start, so it is read once.
  static Failpoints failpoints;
  return failpoints.Hit(name);
}

}  // namespace sae
