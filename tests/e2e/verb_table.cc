#include "tests/e2e/verb_table.h"

#include <algorithm>
#include <regex>
#include <sstream>

namespace saeloom::e2e {
namespace {

std::vector<std::string> Words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

}  // namespace

bool VerbInfo::Has(const std::string& flag) const {
  return std::find(flags.begin(), flags.end(), flag) != flags.end();
}

VerbTable::VerbTable(const std::string& bash_script) {
  const std::regex line("^    '([^']+)'\\) flags='([^']*)' words='[^']*' kind='([^']*)' ;;$");
  std::istringstream in(bash_script);
  std::smatch match;
  for (std::string text; std::getline(in, text);) {
    if (std::regex_match(text, match, line)) verbs_[match[1]] = {Words(match[2]), match[3]};
  }
  std::set<std::string> nouns;
  for (const auto& [path, info] : verbs_) {
    if (const auto space = path.find(' '); space != std::string::npos)
      nouns.insert(path.substr(0, space));
  }
  for (const std::string& noun : nouns) verbs_.erase(noun);
}

std::string VerbTable::PathOf(const std::vector<std::string>& args) const {
  if (args.empty()) return "";
  if (args.size() > 1 && verbs_.contains(args[0] + " " + args[1])) return args[0] + " " + args[1];
  return verbs_.contains(args[0]) ? args[0] : "";
}

void VerbTable::NoteDone(const std::vector<std::string>& args) {
  const std::string path = PathOf(args);
  const bool help = std::find(args.begin(), args.end(), "--help") != args.end();
  if (path.empty() || help) return;
  std::set<std::string>& flags = done_[path];
  for (const std::string& arg : args) flags.insert(arg.substr(0, arg.find('=')));
}

std::vector<std::string> VerbTable::VerbsNotDone() const {
  std::vector<std::string> out;
  for (const auto& [path, info] : verbs_) {
    if (!done_.contains(path)) out.push_back(path);
  }
  return out;
}

std::vector<std::string> VerbTable::FlagsNotDone() const {
  std::map<std::string, std::size_t> users;
  for (const auto& [path, info] : verbs_) {
    for (const std::string& flag : info.flags) ++users[flag];
  }
  const std::size_t everybody = users["--server"];  // verbs of saeloom-offline do not have it
  std::vector<std::string> out;
  for (const auto& [path, info] : verbs_) {
    const auto done = done_.find(path);
    for (const std::string& flag : info.flags) {
      if (flag == "-h" || flag == "--help" || users[flag] == everybody) continue;
      if (done == done_.end() || !done->second.contains(flag)) out.push_back(path + " " + flag);
    }
  }
  return out;
}

}  // namespace saeloom::e2e
