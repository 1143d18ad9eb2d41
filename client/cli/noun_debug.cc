// `saeloom debug bundle`, and health.

#include <CLI/CLI.hpp>
#include <filesystem>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>

#include "absl/strings/match.h"
#include "absl/strings/str_join.h"
#include <grpcpp/grpcpp.h>

#include "client/cli/exit_code.h"
#include "client/cli/print.h"
#include "client/cli/private_file.h"
#include "client/cli/tar.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {
using json = nlohmann::ordered_json;
using saeloom::v1::FleetService;

absl::Status Health(Session& session) {
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(const std::string state, api->CheckHealth());
  const std::string& at = api->address().target;
  Print(session, session.json()
                     ? MachineText(session, json{{"address", at}, {"state", state}}.dump())
                     : absl::StrCat(state, " at ", at, "\n"));
  if (state == "SERVING") return absl::OkStatus();
  // It answers, but takes no work: scripts see that in the exit code, as if it were away.
  session.exit_code = ExitCode(absl::UnavailableError(state));
  return absl::OkStatus();
}

std::string Pretty(const std::string& text) {
  const json j = json::parse(text, nullptr, false);
  return j.is_discarded() ? text : j.dump(2) + "\n";
}

/// One file of the bundle, or a line that says why there is none.
class Bundle {
 public:
  template <class Result, class ToText>
  void Add(const std::string& name, const absl::StatusOr<Result>& result, ToText to_text) {
    if (result.ok()) {
      files_[name] = to_text(*result);
    } else {
      absl::StrAppend(&files_["missing.txt"], name, ": ", result.status().ToString(), "\n");
    }
  }
  void Put(const std::string& name, const std::string& text) { files_[name] = text; }
  const std::map<std::string, std::string>& files() const { return files_; }

 private:
  std::map<std::string, std::string> files_;
};

/// What the coordinator tells, and what this program is. Certificates, tokens and their contents
/// are not looked at.
Bundle Collect(Api& api, const World& world) {
  Bundle bundle;
  bundle.Put("client.json", json{{"version", SAELOOM_VERSION},
                                 {"grpc", grpc::Version()},
                                 {"server", api.address().target},
                                 {"server_from", api.address().origin},
                                 {"time", absl::FormatTime(world.clock.Now(), absl::UTCTimeZone())}}
                                    .dump(2) +
                                "\n");
  bundle.Add(
      "coordinator.json",
      api.Call(&FleetService::StubInterface::GetDebugInfo, saeloom::v1::GetDebugInfoRequest()),
      [](const auto& info) { return Pretty(info.json()); });
  bundle.Add("health.txt", api.CheckHealth(), [](const std::string& s) { return s + "\n"; });
  bundle.Add("sweeps.json", api.ListSweeps(),
             [](const auto& sweeps) { return JsonArrayText(sweeps) + "\n"; });
  bundle.Add("workers.json", api.ListWorkers(),
             [](const auto& workers) { return JsonArrayText(workers) + "\n"; });
  bundle.Add("queues.json",
             api.Call(&FleetService::StubInterface::ListQueues, saeloom::v1::ListQueuesRequest()),
             [](const auto& r) { return JsonArrayText(r.queues()) + "\n"; });
  return bundle;
}

absl::Status WriteBundle(const std::string& out, Session& session) {
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_RETURN_IF_ERROR(api->CheckHealth().status());  // open to everybody
  if (const auto sweeps = api->ListSweeps("", 1); absl::IsUnauthenticated(sweeps.status()))
    return sweeps.status();
  const Bundle bundle = Collect(*api, session.world);
  const std::string path = (std::filesystem::path(session.world.directory) / out).string();
  if (absl::EndsWith(out, ".tar")) {
    SAE_ASSIGN_OR_RETURN(const std::string tar,
                         TarOf(bundle.files(), absl::ToUnixSeconds(session.world.clock.Now())));
    SAE_RETURN_IF_ERROR(WritePrivateFile(path, tar));
  } else {
    for (const auto& [name, text] : bundle.files())
      SAE_RETURN_IF_ERROR(WritePrivateFile(absl::StrCat(path, "/", name), text));
  }
  if (const auto missing = bundle.files().find("missing.txt"); missing != bundle.files().end())
    session.Note("note: not in it: " + missing->second.substr(0, missing->second.size() - 1));
  json names = json::array();
  for (const auto& [name, text] : bundle.files()) names.push_back(name);
  if (session.json()) {
    Print(session, MachineText(session, json{{"bundle", out}, {"files", names}}.dump()));
  } else if (session.names()) {
    Print(session, out + "\n");
  } else if (!session.quiet) {
    Print(session,
          absl::StrCat(out, ": ", bundle.files().size(),
                       " files; no secrets in it, but names of sweeps, people and folders\n"));
  }
  return absl::OkStatus();
}

}  // namespace

void AddDebug(CLI::App& app, Session& session) {
  CLI::App* health = AddVerb(app, session, "health", "whether the coordinator serves",
                             {"%", "% --timeout 2 -o json"}, {},
                             "Exit code 0 when it does, 6 when it does not or cannot be reached.");
  OnRun(health, session, [&session] { return Health(session); });

  CLI::App* noun = AddNoun(app, "debug", "for reports of bugs");
  auto out = std::make_shared<std::string>("saeloom-debug.tar");
  CLI::App* verb = AddVerb(*noun, session, "bundle",
                           "state and versions of the coordinator in one file, without secrets",
                           {"%", "% --out saeloom-debug.tar", "% --out bundle"}, {.names = true});
  verb->add_option("--out", *out, "a file that ends in .tar, else a folder")->capture_default_str();
  OnRun(verb, session, [out, &session] { return WriteBundle(*out, session); });
}

}  // namespace sae::cli
