// `saeloom context list|use|set|delete`.

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "absl/strings/str_join.h"

#include "client/cli/address.h"
#include "client/cli/context_file.h"
#include "client/cli/print.h"
#include "client/cli/verb.h"
#include "sae/base/ids.h"

namespace sae::cli {
namespace {

absl::Status List(Session& session) {
  SAE_ASSIGN_OR_RETURN(const ContextFile file, LoadContexts(session.world));
  std::vector<std::string> objects;
  std::string names;
  Table table({{"CURRENT"}, {"CONTEXT"}, {"SERVER"}, {"CA"}, {"TOKEN FILE"}});
  for (const Context& c : file.contexts) {
    objects.push_back(ContextJson(c, c.name == file.current));
    names += c.name + "\n";
    table.Add({c.name == file.current ? "*" : "", c.name, c.server, c.ca.empty() ? "-" : c.ca,
               c.token_file.empty() ? "-" : c.token_file});
  }
  if (session.json()) {
    Print(session, MachineText(session, "[" + absl::StrJoin(objects, ",\n") + "]"));
  } else if (session.names()) {
    Print(session, names);
  } else if (file.contexts.empty()) {
    Print(session, "no contexts yet: saeloom context set NAME --server HOST:PORT\n");
  } else {
    Print(session, table.Text());
  }
  return absl::OkStatus();
}

absl::Status Use(const std::string& name, Session& session) {
  SAE_ASSIGN_OR_RETURN(ContextFile file, LoadContexts(session.world));
  if (file.Find(name) == nullptr) return NoSuchContext(file, name);
  file.current = name;
  SAE_RETURN_IF_ERROR(SaveContexts(file, session.world));
  if (!session.quiet) Print(session, absl::StrCat("context ", name, " is in use\n"));
  if (!session.world.variable("SAELOOM_ADDR").empty())
    session.Note("note: $SAELOOM_ADDR stands over it; unset it, or give --context " + name);
  return absl::OkStatus();
}

/// The connection's flags are the context's fields; what is not given stays.
absl::Status Set(const std::string& name, bool use, Session& session) {
  SAE_RETURN_IF_ERROR(ValidateName(name, "context"));
  SAE_ASSIGN_OR_RETURN(ContextFile file, LoadContexts(session.world));
  if (file.Find(name) == nullptr) {
    file.contexts.push_back({});
    file.contexts.back().name = name;
  }
  Context& context = *file.Find(name);
  const ConnectionFlags& flags = session.connection;
  if (!flags.server.empty()) {
    SAE_ASSIGN_OR_RETURN(const Address address, CheckAddress(flags.server, "--server"));
    context.server = address.target;
  }
  if (context.server.empty())
    return absl::InvalidArgumentError("context " + name + ": give its --server HOST:PORT");
  const auto set = [&](std::string& field, const std::string& path) {
    if (path.empty()) return;
    field = (std::filesystem::path(session.world.directory) / path).lexically_normal().string();
  };
  set(context.ca, flags.credentials.tls.ca);
  set(context.cert, flags.credentials.tls.cert);
  set(context.key, flags.credentials.tls.key);
  set(context.token_file, flags.credentials.token_file);
  if (use || file.current.empty()) file.current = name;
  SAE_RETURN_IF_ERROR(SaveContexts(file, session.world));
  const bool current = file.current == name;
  if (session.json()) {
    Print(session, MachineText(session, ContextJson(context, current)));
  } else if (session.names()) {
    Print(session, name + "\n");
  } else if (!session.quiet) {
    Print(session,
          absl::StrCat("context ", name, ": ", context.server, current ? ", in use\n" : "\n"));
  }
  return absl::OkStatus();
}

absl::Status Delete(const std::string& name, Session& session) {
  SAE_ASSIGN_OR_RETURN(ContextFile file, LoadContexts(session.world));
  if (file.Find(name) == nullptr) return NoSuchContext(file, name);
  std::erase_if(file.contexts, [&](const Context& c) { return c.name == name; });
  if (file.current == name) file.current.clear();
  SAE_RETURN_IF_ERROR(SaveContexts(file, session.world));
  if (!session.quiet) Print(session, absl::StrCat("context ", name, ": deleted\n"));
  return absl::OkStatus();
}

}  // namespace

void AddContext(CLI::App& app, Session& session) {
  CLI::App* noun =
      AddNoun(app, "context", "named coordinators, in $XDG_CONFIG_HOME/saeloom/config.yaml");
  CLI::App* list =
      AddVerb(*noun, session, "list", "all contexts", {"%", "% -o json"}, {.names = true});
  OnRun(list, session, [&session] { return List(session); });

  auto name = std::make_shared<std::string>();
  CLI::App* use = AddVerb(*noun, session, "use", "use this one from now on", {"% prod"});
  use->add_option("context", *name, "its name")->required();
  OnRun(use, session, [name, &session] { return Use(*name, session); });

  auto in_use = std::make_shared<bool>(false);
  CLI::App* set = AddVerb(
      *noun, session, "set", "make a context or change one, from --server, --ca, --token-file, ...",
      {"% prod --server coordinator.example:7411 --ca ca.pem --token-file ann.token --use",
       "% local --server 127.0.0.1:7411"},
      {.names = true},
      "The first one is in use at once. Paths of files are kept, not what is in them.");
  set->add_option("context", *name, "its name")->required();
  set->add_flag("--use", *in_use, "and use it from now on");
  OnRun(set, session, [name, in_use, &session] { return Set(*name, *in_use, session); });

  CLI::App* remove = AddVerb(*noun, session, "delete", "forget a context", {"% prod"});
  remove->add_option("context", *name, "its name")->required();
  OnRun(remove, session, [name, &session] { return Delete(*name, session); });
}

}  // namespace sae::cli
