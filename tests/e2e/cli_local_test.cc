// What a person does on the own machine: contexts, completion, files of sweeps, `up`, and the verbs
// of saeloom-offline.

#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include <gmock/gmock.h>

#include "sae/base/env.h"
#include "tests/e2e/cli_world.h"

namespace saeloom::e2e {
namespace {
using nlohmann::json;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::StartsWith;
namespace fs = std::filesystem;

class Local : public CliTest {
 protected:
  /// Whether a program of the system is here; says so when it is not.
  static bool Has(const std::string& program) {
    for (const char* folder : {"/usr/bin/", "/bin/", "/usr/local/bin/"}) {
      if (fs::exists(folder + program)) return true;
    }
    std::cout << "left out: there is no " << program << " here\n";
    return false;
  }
};

TEST_F(Local, ContextsNameCoordinatorsAndCredentials) {
  const std::string at = world().address();
  EXPECT_EQ(Ok("ivan", {"context", "list"}).out,
            "no contexts yet: saeloom context set NAME --server HOST:PORT\n");
  EXPECT_THAT(Fails("ivan", {"list"}, 6, "UNAVAILABLE").value("message", ""),
              HasSubstr("saeloom context set"));
  EXPECT_EQ(Ok("ivan", {"context", "set", "plain", "--server", world().plain_address()}).out,
            "context plain: " + world().plain_address() + ", in use\n");
  Ok("ivan", {"context", "set", "safe", "--server", at, "--ca", world().ca(), "--token-file",
              world().token("vera"), "--use"});
  EXPECT_EQ(Ok("ivan", {"whoami", "-o", "name"}).out, "vera\n");
  EXPECT_EQ(Ok("ivan", {"whoami", "--context", "plain", "-o", "name"}).out, "anonymous\n");
  EXPECT_EQ(Run("ivan", {"whoami", "-o", "name"}, {{"SAELOOM_CONTEXT", "plain"}}).out,
            "anonymous\n");
  EXPECT_EQ(Run("ivan", {"whoami", "-o", "name"},
                {{"SAELOOM_ADDR", at},
                 {"SAELOOM_CA", world().ca()},
                 {"SAELOOM_TOKEN_FILE", world().token("sam")}})
                .out,
            "sam\n");
  EXPECT_EQ(Ok("ivan", {"context", "use", "plain"}).out, "context plain is in use\n");
  const json contexts = Json("ivan", {"context", "list"});
  ASSERT_EQ(contexts.size(), 2U);
  EXPECT_EQ(contexts.at(0),
            (json{{"name", "plain"}, {"current", true}, {"server", world().plain_address()}}));
  EXPECT_EQ(contexts.at(1).at("ca"), world().ca());
  Fails("ivan", {"context", "use", "nowhere"}, 3, "NOT_FOUND");
  Ok("ivan", {"context", "delete", "plain"});
  EXPECT_EQ(Ok("ivan", {"context", "list", "-o", "name"}).out, "safe\n");
  const auto mode = fs::status(world().home("ivan") + "/.config/saeloom/config.yaml").permissions();
  EXPECT_EQ(mode & (fs::perms::group_all | fs::perms::others_all), fs::perms::none);
}

TEST_F(Local, CompletionIsReadByItsShellAndAsksTheCoordinator) {
  Ok("olga", {"queue", "set", "completed", "--weight", "1"});
  const auto bash = [&](const std::string& words) {
    const CliRun run = world().Shell(
        "vera",
        {"/bin/bash", "-c",
         "eval \"$(saeloom completion bash)\"; COMP_WORDS=(saeloom " + words +
             "); COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _saeloom; echo \"${COMPREPLY[@]}\""});
    EXPECT_EQ(run.code, 0) << run.err;
    EXPECT_EQ(run.err, "");
    return run.out;
  };
  EXPECT_EQ(bash("token c"), "create\n");
  EXPECT_EQ(bash("queue set com"), "completed\n") << "from the coordinator, with vera's token";
  EXPECT_EQ(bash("worker get one"), world().worker() + "\n");
  EXPECT_EQ(bash("token revoke ''"), "\n") << "she may not see them";
  const std::map<std::string, std::string> checks = {
      {"zsh",
       "autoload -U compinit; compinit -u; eval \"$(saeloom completion zsh)\" && whence -w "
       "_saeloom"},
      {"fish", "saeloom completion fish | source; complete -C 'saeloom token c'"}};
  for (const auto& [shell, command] : checks) {
    EXPECT_THAT(Ok("vera", {"completion", shell}).out, HasSubstr("saeloom"));
    if (!Has(shell)) continue;
    const CliRun run = world().Shell("vera", {"/usr/bin/" + shell, "-c", command});
    EXPECT_EQ(run.code, 0) << shell << run.err;
    EXPECT_THAT(run.out, HasSubstr(shell == "zsh" ? "function" : "create"));
  }
  Fails("vera", {"completion", "csh"}, 2, "INVALID_ARGUMENT");
}

TEST_F(Local, AFileIsCheckedByTheSchemaByTheProgramAndByTheCoordinator) {
  const std::string good = world().Spec("checked", "2, 4", 60);
  const std::string bad = world().Spec("checked-too", "0, 4", 60, "wrongKey: 1\n");
  EXPECT_EQ(Json("sam", {"validate", good}),
            (json{{"valid", true}, {"name", "checked"}, {"trials", 2}}));
  EXPECT_THAT(Ok("sam", {"validate", "-f", good}).out, HasSubstr("valid, 2 trials"));
  EXPECT_THAT(Ok("sam", {"validate", "--file", good}).out, HasSubstr("valid, 2 trials"));
  EXPECT_THAT(Fails("sam", {"validate", bad}, 2, "INVALID_ARGUMENT").value("message", ""),
              HasSubstr("wrongKey"));
  const json schema = Ok("sam", {"schema"}).json();
  EXPECT_EQ(schema.at("title"), "A sweep of saeloom");
  EXPECT_TRUE(schema.at("properties").contains("store"));
  ASSERT_TRUE(
      sae::WriteFileAtomically(sae::RealEnv(), world().home("sam") + "/schema.json", schema.dump())
          .ok());
  const std::string check =
      "import json, sys\ntry:\n  import jsonschema, yaml\nexcept ImportError as e:\n  "
      "sys.exit(f'left out: {e}')\n"
      "schema = "
      "json.load(open('schema.json'))\njsonschema.Draft202012Validator.check_schema(schema)\n"
      "for f in sys.argv[1:]:\n  "
      "print(jsonschema.Draft202012Validator(schema).is_valid(yaml.safe_load(open(f))))\n";
  const CliRun run = world().Shell("sam", {"/usr/bin/env", "python3", "-c", check, good, bad});
  if (run.err.find("left out") != std::string::npos) {
    std::cout << run.err;
  } else {
    EXPECT_EQ(run.out, "True\nFalse\n") << run.err;
  }
}

TEST_F(Local, APlanTellsWhatWouldRunAndWhetherItIsThere) {
  const std::string spec = world().Spec("there", "2, 4", 60);
  const json plan = Json("sam", {"plan", spec});
  EXPECT_EQ(plan.at("store_d"), CliWorld::kWidth);
  EXPECT_EQ(plan.at("tokens"), 2 * 60 * 128);
  EXPECT_EQ(plan.at("trials").size(), 2U);
  EXPECT_EQ(plan.at("trials")[1].at("parameters"), (json{{"sae.k", 4}}));
  EXPECT_EQ(Run("sam", {"plan", spec, "--exit-code"}).code, 1) << "it would be created";
  Ok("sam", {"submit", spec, "--wait", "--quiet"});
  const CliRun run = Ok("sam", {"plan", "-f", spec, "--exit-code"});
  EXPECT_THAT(run.out, HasSubstr("no change, this very sweep is there"));
  EXPECT_EQ(Run("sam", {"plan", world().Spec("gone", "0", 60), "--exit-code"}).code, 255);
  EXPECT_EQ(Run("nobody", {"plan", spec, "--exit-code"}).code, 255) << "no token";
  EXPECT_THAT(Ok("sam", {"plan", "--file", spec, "--all", "--gpus", "8xH100", "--width", "32"}).out,
              HasSubstr("GPU-HOURS"));
}

TEST_F(Local, UpIsAServiceForOneThatEndsWithCtrlC) {
  const Arguments args = {"up",
                          "--dir",
                          "state",
                          "--slots",
                          "1",
                          "--workers",
                          "1",
                          "--coordinator-binary",
                          CliWorld::Program("saeloom-coordinator"),
                          "--worker-binary",
                          CliWorld::Program("saeloom-worker")};
  const auto up = world().Start("uma", args);
  const std::string address_file = world().home("uma") + "/state/address";
  ASSERT_TRUE(up->Prints("SAELOOM_ADDR=127.0.0.1:")) << up->err();
  const std::string told = up->out();
  const std::size_t from = told.find("SAELOOM_ADDR=") + 13;
  const std::string at = told.substr(from, told.find('\n', from) - from);
  EXPECT_THAT(sae::RealEnv().Read(address_file).value_or(""), StartsWith(at));
  ASSERT_TRUE(ProcessRig::WaitUntil([&] {
    return Json("uma", {"workers", "--server", at}).size() == 1;
  })) << up->err();
  EXPECT_EQ(Ok("uma", {"whoami", "--server", at, "-o", "name"}).out, "anonymous\n");
  Ok("uma", {"submit", world().Spec("at-home", "2", 60), "--server", at, "--wait", "--quiet"});
  EXPECT_EQ(up->Interrupt(), 0) << up->out() << up->err();
  world().NoteDone(args);
  EXPECT_EQ(Json("uma", {"version"}).at("api"), "saeloom.v1");
  // The port of the state's folder is kept.
  const std::string port = at.substr(at.rfind(':') + 1);
  const Arguments again = {"up", "--dir", "state", "--workers", "0", "--port", port};
  const auto second = world().Start("uma", again);
  ASSERT_TRUE(second->Prints("SAELOOM_ADDR=" + at)) << second->err();
  EXPECT_EQ(Ok("uma", {"list", "--server", at, "-o", "name"}).out, "at-home\n");
  EXPECT_EQ(second->Interrupt(), 0);
  world().NoteDone(again);
}

/// Those that need a language model, or minutes, are carried out elsewhere: harvest, lm and latents
/// by offline_test (client/offline), bench by recovery_test. Here: that they are there.
TEST_F(Local, VerbsWithoutACoordinatorAreThere) {
  for (const auto& [path, verb] : world().verbs().verbs()) {
    if (verb.Has("--server")) continue;
    const CliRun run = Ok("sam", {path, "--help"});
    EXPECT_THAT(run.out, HasSubstr("Usage: saeloom " + path)) << path;
  }
  for (const char* elsewhere : {"harvest", "lm", "latents", "bench"}) world().NoteDone({elsewhere});
  Ok("sam", {"store", "create", "--synthetic", "d=8,features=16,rows=500", "--out", "tiny"});
  EXPECT_EQ(Ok("sam", {"store", "info", "tiny", "-o", "json"}).json().at("d"), 8);
  EXPECT_EQ(Run("sam", {"latents", "--sae", "nothing", "--store", "tiny"}).code, 3);
  EXPECT_EQ(Run("sam", {"lm", "info", "--model", "nothing.gguf"}).code, 3);
}

TEST_F(Local, AMistypedVerbIsGuessed) {
  const CliRun run = Run("sam", {"sweep", "lits"});
  EXPECT_EQ(run.code, 2);
  EXPECT_THAT(run.err,
              AllOf(HasSubstr("unknown verb sweep lits"), HasSubstr("did you mean list?")));
  Fails("sam", {"list", "--wait"}, 2, "INVALID_ARGUMENT");
}

}  // namespace
}  // namespace saeloom::e2e
