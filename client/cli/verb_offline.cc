#include <algorithm>

#include "client/cli/verb.h"
#include "sae/base/process.h"

namespace sae::cli {

const std::vector<std::pair<std::string, std::string>>& OfflineVerbs() {
  static const std::vector<std::pair<std::string, std::string>> verbs = {
      {"harvest", "activations of a language model into a store"},
      {"store", "info, verify or create an activation store"},
      {"lm", "info of a model, tokens of a text"},
      {"encode", "codes of a store's rows"},
      {"import", "a checkpoint from another tool's SAE"},
      {"latents", "texts that excite latents most"},
      {"bench", "recovery of known features, against bands"}};
  return verbs;
}

bool IsOffline(const std::vector<std::string>& args) {
  static const std::vector<std::string> with_value = {
      "--server", "--context", "--ca",      "--cert",  "--key",    "--token-file", "-o",
      "--output", "--timeout", "--offline", "--limit", "--filter", "--request-id"};
  std::size_t verb = 0;
  while (verb < args.size() && !args[verb].empty() && args[verb][0] == '-') {
    verb += std::find(with_value.begin(), with_value.end(), args[verb]) == with_value.end() ? 1 : 2;
  }
  if (verb >= args.size()) return false;
  const auto& verbs = OfflineVerbs();
  if (std::any_of(verbs.begin(), verbs.end(), [&](const auto& v) { return v.first == args[verb]; }))
    return true;
  return args[verb] == "export" && std::any_of(args.begin(), args.end(), [](const std::string& a) {
           return a == "--checkpoint" || a.rfind("--checkpoint=", 0) == 0;
         });
}

absl::Status RunOffline(const std::vector<std::string>& args, const std::string& flag,
                        const World& world) {
  SAE_ASSIGN_OR_RETURN(const std::string program,
                       FindSibling(flag, "--offline", "saeloom-offline", world.own_directory));
  std::vector<std::string> argv = {program};
  argv.insert(argv.end(), args.begin(), args.end());
  return world.exec(argv);
}

}  // namespace sae::cli
