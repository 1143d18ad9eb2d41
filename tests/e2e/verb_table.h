#pragma once
// The verbs of `saeloom` as the program itself tells them (the cases of its completion script), and
// which of them have been carried out. One thread.

#include <map>
#include <set>
#include <string>
#include <vector>

namespace saeloom::e2e {

struct VerbInfo {
  std::vector<std::string> flags;  ///< "--limit", "-o": its own and those of every verb
  std::string kind;                ///< of its argument: sweep, trial, ..., or ""
  bool Has(const std::string& flag) const;
};

class VerbTable {
 public:
  /// Reads `saeloom completion bash`. No verb is found where the script has changed its form.
  explicit VerbTable(const std::string& bash_script);

  /// By path, "sweep get". Nouns are not among them; their aliases are.
  const std::map<std::string, VerbInfo>& verbs() const { return verbs_; }
  /// "sweep get" of {"sweep", "get", "demo"}; "" when no verb stands there.
  std::string PathOf(const std::vector<std::string>& args) const;
  /// It did what it was told, and was not merely asked for help.
  void NoteDone(const std::vector<std::string>& args);

  std::vector<std::string> VerbsNotDone() const;
  /// "sweep get --watch": flags of a verb alone that no command had that did what it was told.
  std::vector<std::string> FlagsNotDone() const;

 private:
  std::map<std::string, VerbInfo> verbs_;
  std::map<std::string, std::set<std::string>> done_;  ///< flags by path
};

}  // namespace saeloom::e2e
