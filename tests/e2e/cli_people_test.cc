// Who may do what, and what one is told who may not: tokens, roles, certificates, and names that
// nothing has.

#include <nlohmann/json.hpp>

#include <gmock/gmock.h>

#include "sae/base/env.h"
#include "tests/e2e/cli_world.h"

namespace saeloom::e2e {
namespace {
using nlohmann::json;
using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

class People : public CliTest {
 protected:
  /// A command of this verb, whose names nothing has.
  static Arguments WithUnknownNames(const std::string& path, const VerbInfo& verb) {
    static const std::map<std::string, std::string> names = {
        {"sweep", "nothing"},  {"trial", "nothing/0000"},
        {"worker", "nothing"}, {"checkpoint", "nothing/0000/step-1"},
        {"queue", "nothing"},  {"token", "nothing"},
        {"context", "nothing"}};
    static const std::map<std::string, Arguments> more = {
        {"export", {"--best", "--out", "x"}},   {"sweep export", {"--best", "--out", "x"}},
        {"sweep set", {"--priority", "1"}},     {"sweep fork", {"--name", "x"}},
        {"sweep add", {"--values", "sae.k=3"}}, {"queue set", {"--weight", "1"}},
        {"token create", {"somebody"}},         {"version", {"--coordinator"}}};
    Arguments out;
    const auto space = path.find(' ');
    out.push_back(path.substr(0, space));
    if (space != std::string::npos) out.push_back(path.substr(space + 1));
    if (const auto it = names.find(verb.kind); it != names.end()) out.push_back(it->second);
    if (const auto it = more.find(path); it != more.end())
      out.insert(out.end(), it->second.begin(), it->second.end());
    return out;
  }
  /// Does without the coordinator, or is open to everybody.
  static bool IsOpen(const std::string& path, const VerbInfo& verb) {
    return !verb.Has("--server") || path.rfind("context ", 0) == 0 || path == "up" ||
           path == "validate" || path == "plan" || path == "schema" || path == "completion" ||
           path == "health";
  }
};

TEST_F(People, EveryVerbAsksWhoItIs) {
  int asked = 0;
  for (const auto& [path, verb] : world().verbs().verbs()) {
    if (IsOpen(path, verb)) continue;
    Arguments args = WithUnknownNames(path, verb);
    if (path == "submit") args.push_back(world().Spec("unasked", "2", 60));
    ++asked;
    const json error = Fails("nobody", args, 4, "UNAUTHENTICATED");
    EXPECT_THAT(error.value("hint", ""), HasSubstr("--token-file")) << path;
  }
  EXPECT_GT(asked, 50);
}

TEST_F(People, AViewerChangesNothing) {
  int refused = 0;
  for (const auto& [path, verb] : world().verbs().verbs()) {
    if (!verb.Has("--request-id") && path != "token list" && path != "audit list") continue;
    Arguments args = WithUnknownNames(path, verb);
    if (path == "submit") args.push_back(world().Spec("viewed", "2", 60));
    ++refused;
    const json error = Fails("vera", args, 4, "PERMISSION_DENIED");
    EXPECT_THAT(error.value("message", ""), AllOf(HasSubstr("needs the role"), HasSubstr("vera")));
    EXPECT_THAT(error.value("hint", ""), HasSubstr("whoami"));
  }
  EXPECT_GT(refused, 25);
}

TEST_F(People, NamesThatNothingHasAreNotFound) {
  int missed = 0;
  for (const auto& [path, verb] : world().verbs().verbs()) {
    if (verb.kind.empty() || verb.kind == "queue" || verb.kind == "spec" || verb.kind == "shell" ||
        path == "context set" || path == "token create")
      continue;
    ++missed;
    const json error = Fails("admin", WithUnknownNames(path, verb), 3, "NOT_FOUND");
    EXPECT_THAT(error.value("message", ""), HasSubstr("nothing")) << path;
  }
  EXPECT_GT(missed, 40);
  Fails("sam", {"submit", "nothing.yaml"}, 3, "NOT_FOUND");
}

TEST_F(People, WhatOneOwnsOnlyAnOperatorMayChangeToo) {
  Ok("sam", {"submit", world().Spec("mine", "2", 60), "--wait", "--quiet"});
  const json error = Fails("tom", {"sweep", "delete", "mine"}, 4, "PERMISSION_DENIED");
  EXPECT_THAT(error.value("message", ""), HasSubstr("sam"));
  Fails("sam", {"worker", "cordon", world().worker()}, 4, "PERMISSION_DENIED");
  Fails("olga", {"token", "create", "eve"}, 4, "PERMISSION_DENIED");
  Ok("olga", {"sweep", "delete", "mine", "--quiet"});
}

TEST_F(People, TokensAreMadeShownOnceListedAndRevoked) {
  const json made = Json("admin", {"token", "create", "carl", "--role", "viewer", "--ttl", "2h",
                                   "--note", "for a day", "--request-id", "token-1"});
  const std::string id = made.at("token").at("id"), secret = made.at("secret");
  EXPECT_THAT(secret, HasSubstr("saeloom_" + id + "_"));
  const std::string file = world().home("admin") + "/carl.token";
  ASSERT_TRUE(sae::WriteFileAtomically(sae::RealEnv(), file, secret + "\n").ok());
  const Arguments as_carl = {"whoami",       "--server", world().address(), "--ca", world().ca(),
                             "--token-file", file};
  const json carl = Json("nobody", as_carl);
  EXPECT_EQ(carl.at("principal"), "carl");
  EXPECT_EQ(carl.at("role"), "viewer");
  EXPECT_EQ(carl.at("method"), "token");
  const CliRun list = Ok("admin", {"token", "list", "-o", "json"});
  EXPECT_THAT(list.out, AllOf(HasSubstr(id), HasSubstr("for a day"), Not(HasSubstr(secret))));
  EXPECT_EQ(Ok("admin", {"token", "revoke", id, "--request-id", "token-2"}).out,
            "token " + id + " of carl: revoked\n");
  const json error = Fails("nobody", as_carl, 4, "UNAUTHENTICATED");
  EXPECT_THAT(error.value("message", ""), HasSubstr("revoked"));
  Fails("admin", {"token", "create", "x", "--ttl", "soon"}, 2, "INVALID_ARGUMENT");
  const CliRun shown = Ok("admin", {"token", "create", "carl", "--role", "viewer"});
  EXPECT_THAT(shown.out, ::testing::MatchesRegex("saeloom_[a-z0-9]+_[a-zA-Z0-9_-]+\n"));
  EXPECT_THAT(shown.err, HasSubstr("the only time that it is shown"));
}

TEST_F(People, TheAuditNamesWhoAndWhatAndWhetherItWasAllowed) {
  Fails("vera", {"cancel", "nothing"}, 4, "PERMISSION_DENIED");
  const json refused = Json(
      "admin", {"audit", "list", "--principal", "vera", "--method", "CancelSweep", "--limit", "1"});
  ASSERT_EQ(refused.size(), 1U);
  EXPECT_EQ(refused.at(0).at("code"), "PERMISSION_DENIED");
  EXPECT_EQ(refused.at(0).at("role"), "viewer");
  Ok("olga", {"queue", "set", "audited", "--weight", "3", "--request-id", "audited-1"});
  const json after = Json("admin", {"audit", "list", "--after", refused.at(0).at("id").dump(),
                                    "--principal", "olga", "--method", "UpdateQueue"});
  ASSERT_EQ(after.size(), 1U);
  EXPECT_EQ(after.at(0).at("request_id"), "audited-1");
  EXPECT_EQ(after.at(0).at("code"), "OK");
}

TEST_F(People, WhoCannotConnectIsToldWhy) {
  const auto told = [&](const Arguments& args) {
    Arguments all = {"list", "--timeout", "5"};
    all.insert(all.end(), args.begin(), args.end());
    const json error = Fails("nobody", all, 6, "UNAVAILABLE");
    return error.value("message", "") + "\n" + error.value("hint", "");
  };
  const std::string at = world().address();
  EXPECT_THAT(told({"--server", at}), AllOf(HasSubstr("cannot talk to " + at), HasSubstr("--ca"),
                                            Not(HasSubstr("saeloom up"))));
  EXPECT_THAT(
      told({"--server", at, "--ca", world().other_ca()}),
      AllOf(HasSubstr("cannot talk to " + at), HasSubstr(world().other_ca()),
            HasSubstr("has signed the other side's certificate"), Not(HasSubstr("saeloom up"))));
  EXPECT_THAT(
      told({"--server", world().plain_address(), "--ca", world().ca()}),
      AllOf(HasSubstr("cannot talk to " + world().plain_address()), HasSubstr("speaks no TLS")));
  EXPECT_THAT(told({"--server", "127.0.0.1:1", "--ca", world().ca()}),
              HasSubstr("no coordinator answers at 127.0.0.1:1"));
}

TEST_F(People, FilesThatAreNotThereAreNamed) {
  const std::string at = world().address();
  EXPECT_THAT(Fails("nobody", {"list", "--server", at, "--ca", "gone.pem"}, 3, "NOT_FOUND")
                  .value("message", ""),
              HasSubstr("gone.pem"));
  EXPECT_THAT(
      Fails("nobody", {"list", "--server", at, "--ca", world().ca(), "--token-file", "gone.token"},
            3, "NOT_FOUND")
          .value("message", ""),
      AllOf(HasSubstr("gone.token"), HasSubstr("--token-file")));
  EXPECT_THAT(
      Fails("nobody",
            {"list", "--server", "elsewhere.example:1", "--token-file", world().token("sam")}, 2,
            "INVALID_ARGUMENT")
          .value("message", ""),
      HasSubstr("never sent without TLS"));
}

}  // namespace
}  // namespace saeloom::e2e
