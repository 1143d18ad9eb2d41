#include <CLI/CLI.hpp>
#include <memory>
#include <nlohmann/json.hpp>

#include <grpcpp/grpcpp.h>

#include "client/cli/print.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {
using json = nlohmann::ordered_json;

absl::Status Version(bool coordinator, Session& session) {
  json out = {{"version", SAELOOM_VERSION}, {"api", "saeloom.v1"}, {"grpc", grpc::Version()}};
  std::string text =
      absl::StrCat("saeloom ", SAELOOM_VERSION, " (API saeloom.v1, gRPC ", grpc::Version(), ")\n");
  if (coordinator) {
    SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
    SAE_ASSIGN_OR_RETURN(const auto info,
                         api->Call(&saeloom::v1::FleetService::StubInterface::GetDebugInfo,
                                   saeloom::v1::GetDebugInfoRequest()));
    const json told = json::parse(info.json(), nullptr, false);
    const std::string version =
        told.is_object() && told.contains("version") && told["version"].is_string()
            ? told["version"].get<std::string>()
            : "unknown";
    out["coordinator"] = {{"address", api->address().target}, {"version", version}};
    absl::StrAppend(&text, "coordinator ", version, " at ", api->address().target, "\n");
  }
  Print(session, session.json() ? MachineText(session, out.dump()) : text);
  return absl::OkStatus();
}

}  // namespace

void AddVersion(CLI::App& app, Session& session) {
  auto coordinator = std::make_shared<bool>(false);
  CLI::App* verb = AddVerb(app, session, "version", "the version of this program",
                           {"% -o json", "% --coordinator"});
  verb->add_flag("--coordinator", *coordinator, "and that of the coordinator");
  OnRun(verb, session, [coordinator, &session] { return Version(*coordinator, session); });
}

}  // namespace sae::cli
