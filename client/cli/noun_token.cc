// `saeloom token create|list|revoke`, and whoami.

#include <CLI/CLI.hpp>
#include <filesystem>
#include <memory>

#include "client/cli/kinds.h"
#include "client/cli/private_file.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {
using AuthStub = saeloom::v1::AuthService::StubInterface;

struct TokenOptions {
  std::string principal;
  std::string role = "submitter";
  std::string ttl;
  std::string note;
  std::string out;
};

absl::Status Create(const TokenOptions& options, Session& session) {
  saeloom::v1::CreateTokenRequest request;
  request.set_principal(options.principal);
  request.set_role(options.role);
  request.set_note(options.note);
  if (!options.ttl.empty()) {
    absl::Duration ttl;
    if (!absl::ParseDuration(options.ttl, &ttl) || ttl < absl::Seconds(1)) {
      return absl::InvalidArgumentError(
          absl::StrCat("--ttl: '", options.ttl, "' is not a span as 720h"));
    }
    request.set_ttl_seconds(absl::ToInt64Seconds(ttl));
  }
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  SAE_ASSIGN_OR_RETURN(auto response, api->Mutate(&AuthStub::CreateToken, request));
  if (!options.out.empty()) {
    const auto path = std::filesystem::path(session.world.directory) / options.out;
    SAE_RETURN_IF_ERROR(WritePrivateFile(path.string(), response.secret() + "\n"));
    response.clear_secret();
    PrintChanged(session, response.token(), response.token().id(),
                 absl::StrCat("token ", response.token().id(), " of ", options.principal, " is in ",
                              options.out));
    return absl::OkStatus();
  }
  if (session.json()) {
    Print(session, MachineText(session, JsonText(response)));
  } else {
    session.Note(absl::StrCat("token ", response.token().id(), " of ", options.principal, ", ",
                              response.token().role(),
                              "; this is the only time that it is shown:"));
    Print(session, response.secret() + "\n");
  }
  return absl::OkStatus();
}

absl::Status Revoke(const std::vector<std::string>& ids, Session& session) {
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  for (const std::string& id : ids) {
    saeloom::v1::RevokeTokenRequest request;
    request.set_id(id);
    SAE_ASSIGN_OR_RETURN(const auto token, api->Mutate(&AuthStub::RevokeToken, request));
    PrintChanged(session, token, token.id(),
                 absl::StrCat("token ", token.id(), " of ", token.principal(), ": revoked"));
  }
  return absl::OkStatus();
}

void AddWhoAmI(CLI::App& app, Session& session) {
  CLI::App* verb = AddVerb(app, session, "whoami", "who you are to the coordinator, and your role",
                           {"%", "% -o json"}, {.names = true});
  OnRun(verb, session, [&session]() -> absl::Status {
    SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
    SAE_ASSIGN_OR_RETURN(const auto me, api->Call(&AuthStub::WhoAmI, saeloom::v1::WhoAmIRequest()));
    if (session.json()) {
      Print(session, MachineText(session, JsonText(me)));
    } else {
      Print(session, session.names()
                         ? me.principal() + "\n"
                         : absl::StrCat(me.principal(), ", ", me.role(), " (by ", me.method(),
                                        ") at ", api->address().target, "\n"));
    }
    return absl::OkStatus();
  });
}

}  // namespace

void AddToken(CLI::App& app, Session& session) {
  CLI::App* noun = AddNoun(app, "token", "tokens of people and scripts");
  auto options = std::make_shared<TokenOptions>();
  CLI::App* create = AddVerb(*noun, session, "create", "make a token; its secret is shown once",
                             {"% ann --role submitter --ttl 720h --out ann.token",
                              "% ci --role viewer --note dashboards > ci.token"},
                             {.change = true, .names = false});
  create->add_option("principal", options->principal, "whose it is")->required();
  create->add_option("--role", options->role, "viewer, submitter, operator or admin")
      ->check(CLI::IsMember({"viewer", "submitter", "operator", "admin"}))
      ->capture_default_str();
  create->add_option("--ttl", options->ttl, "how long it is good, as 720h (default: 30 days)");
  create->add_option("--note", options->note, "what it is for");
  create->add_option("--out", options->out, "write it to this file, for you alone to read");
  OnRun(create, session, [options, &session] { return Create(*options, session); });

  CLI::App* list = AddVerb(*noun, session, "list", "all tokens, without their secrets",
                           {"%", "% -o json"}, {.watch = true, .names = true});
  OnRun(list, session, [&session] {
    return Show(session, [&session](Api& api) -> absl::StatusOr<std::string> {
      SAE_ASSIGN_OR_RETURN(const auto response,
                           api.Call(&AuthStub::ListTokens, saeloom::v1::ListTokensRequest()));
      return ListText(session, TokenKind(session.world.clock.Now()), response.tokens());
    });
  });

  auto ids = std::make_shared<std::vector<std::string>>();
  CLI::App* revoke = AddVerb(*noun, session, "revoke", "let these tokens be good no more",
                             {"% 01J9ZB3K"}, {.change = true, .names = true});
  revoke->add_option("token", *ids, "ids of tokens")->required();
  OnRun(revoke, session, [ids, &session] { return Revoke(*ids, session); });
  AddWhoAmI(app, session);
}

}  // namespace sae::cli
