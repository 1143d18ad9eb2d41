#include "tests/e2e/cli_world.h"

#include <csignal>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <sstream>

#include <gmock/gmock.h>

#include "sae/base/env.h"

namespace saeloom::e2e {

using nlohmann::json;

json CliRun::json() const {
  auto parsed = nlohmann::json::parse(out, nullptr, false);
  EXPECT_FALSE(parsed.is_discarded()) << "no JSON: " << out << err;
  return parsed.is_discarded() ? nlohmann::json() : parsed;
}

std::vector<json> CliRun::lines() const {
  std::vector<nlohmann::json> result;
  std::istringstream in(out);
  for (std::string line; std::getline(in, line);) {
    result.push_back(nlohmann::json::parse(line, nullptr, false));
    EXPECT_FALSE(result.back().is_discarded()) << "no JSON: " << line;
  }
  return result;
}

json CliRun::error() const {
  auto parsed = nlohmann::json::parse(err, nullptr, false);
  EXPECT_TRUE(parsed.is_object() && parsed.contains("error")) << "no error object: " << err;
  return parsed.is_object() ? parsed.value("error", nlohmann::json()) : nlohmann::json();
}

bool CliProcess::Prints(const std::string& text) const {
  bool found = false;
  ProcessRig::WaitUntil([&] {
    const auto ended = process_->Wait(absl::ZeroDuration());
    found = out().find(text) != std::string::npos;
    return found || !ended.ok() || ended->has_value();
  });
  return found;
}

int CliProcess::Interrupt() {
  EXPECT_TRUE(process_->Signal(SIGINT).ok());
  return Wait();
}

int CliProcess::Wait() {
  const auto exit = process_->Wait(absl::Seconds(60));
  return exit.ok() && exit->has_value() ? (*exit)->ShellCode() : -1;
}

CliWorld::CliWorld() {
  ca_.Write(folder_ / "tls/coordinator", ca_.Issue());
  ca_.Write(folder_ / "tls/one", ca_.IssueWorker("one"));
  EXPECT_TRUE(
      sae::WriteFileAtomically(sae::RealEnv(), other_ca(), sae::testing::TestCa().pem()).ok());
  const std::string ports = folder_ / "ports.json";
  Spawn("coordinator", {Binary("saeloom-coordinator"), "--data", folder_ / "data", "--listen",
                        "127.0.0.1:0", "--port-file", ports, "--heartbeat", "250ms", "--lease",
                        "60s", "--retry-delay", "100ms", "--tls-dir", folder_ / "tls/coordinator"});
  const std::string plain_ports = folder_ / "plain-ports.json";
  Spawn("plain", {Binary("saeloom-coordinator"), "--data", folder_ / "plain", "--listen",
                  "127.0.0.1:0", "--port-file", plain_ports});
  address_ = AddressIn(ports);
  plain_address_ = AddressIn(plain_ports);
  verbs_ = std::make_unique<VerbTable>("");
  verbs_ = std::make_unique<VerbTable>(Run("nobody", {"completion", "bash"}).out);

  const std::string first_token = folder_ / "data/admin.token";
  EXPECT_TRUE(WaitUntil([&] { return sae::RealEnv().Exists(first_token); })) << Logs();
  for (const auto& [person, file] :
       {std::pair<std::string, std::string>{"admin", first_token}, {"nobody", ""}}) {
    Arguments args = {"context", "set", "main", "--server", address_, "--ca", ca()};
    if (!file.empty()) args.insert(args.end(), {"--token-file", file});
    EXPECT_EQ(Run(person, args).code, 0);
  }
  AddPerson("olga", "operator");
  AddPerson("sam", "submitter");
  AddPerson("tom", "submitter");
  AddPerson("vera", "viewer");

  Spawn("one", {Binary("saeloom-worker"), "--coordinator", address_, "--runs", runs(), "--slots",
                "2", "--device", "cpu", "--tls-dir", folder_ / "tls/one"});
  EXPECT_TRUE(WaitUntil([&] {
    const auto workers =
        json::parse(Run("vera", {"worker", "list", "-o", "json"}).out, nullptr, false);
    if (workers.is_array() && workers.size() == 1) worker_ = workers[0].value("id", "");
    return !worker_.empty();
  })) << Logs();
}

void CliWorld::AddPerson(const std::string& person, const std::string& role) {
  const CliRun made = Run("admin", {"token", "create", person, "--role", role, "--out", person});
  EXPECT_EQ(made.code, 0) << made.err << Logs();
  const CliRun set = Run(person, {"context", "set", "main", "--server", address_, "--ca", ca(),
                                  "--token-file", token(person)});
  EXPECT_EQ(set.code, 0) << set.err;
}

void CliWorld::Close() {
  Terminate("one");
  Terminate("coordinator");
  Terminate("plain");
  EXPECT_THAT(Processes(), ::testing::IsEmpty()) << Logs();
}

sae::ProcessSpec CliWorld::SpecOf(const std::string& person, const Arguments& argv,
                                  const Variables& variables) const {
  EXPECT_TRUE(sae::RealEnv().MakeDirectories(home(person)).ok());
  sae::ProcessSpec spec;
  spec.argv = argv;
  spec.directory = home(person);
  spec.unset = {"SAELOOM_ADDR", "SAELOOM_CONTEXT", "SAELOOM_CA",         "SAELOOM_CERT",
                "SAELOOM_KEY",  "SAELOOM_TLS_DIR", "SAELOOM_TOKEN_FILE", "XDG_CONFIG_HOME"};
  spec.environment = variables;
  spec.environment["HOME"] = home(person);
  spec.environment[kMark] = mark().substr(sizeof kMark);
  for (const auto& [name, value] : variables) std::erase(spec.unset, name);
  return spec;
}

CliRun CliWorld::Run(const std::string& person, const Arguments& args, const Variables& variables) {
  Arguments argv = {Binary("saeloom")};
  argv.insert(argv.end(), args.begin(), args.end());
  sae::ProcessSpec spec = SpecOf(person, argv, variables);
  spec.errors = folder_ / absl::StrCat("err-", ++runs_);
  CliRun run;
  const auto ended = sae::RunProcess(spec, absl::Seconds(60));
  EXPECT_TRUE(ended.ok()) << ::testing::PrintToString(args) << ended.status() << Logs();
  if (!ended.ok()) return run;
  run.code = ended->exit.ShellCode();
  run.out = ended->output;
  run.err = sae::RealEnv().Read(spec.errors).value_or("");
  // 10 and 11 tell with --wait how a sweep ended.
  if (run.code == 0 || run.code == 10 || run.code == 11) verbs_->NoteDone(args);
  return run;
}

CliRun CliWorld::Shell(const std::string& person, const Arguments& argv) {
  const std::string folder = Binary("saeloom").substr(0, Binary("saeloom").rfind('/'));
  sae::ProcessSpec spec = SpecOf(person, argv, {{"PATH", folder + ":/usr/bin:/bin"}});
  spec.errors = folder_ / absl::StrCat("err-", ++runs_);
  const auto ended = sae::RunProcess(spec, absl::Seconds(60));
  EXPECT_TRUE(ended.ok()) << ended.status();
  if (!ended.ok()) return {};
  return {ended->exit.ShellCode(), ended->output, sae::RealEnv().Read(spec.errors).value_or("")};
}

std::unique_ptr<CliProcess> CliWorld::Start(const std::string& person, const Arguments& args) {
  Arguments argv = {Binary("saeloom")};
  argv.insert(argv.end(), args.begin(), args.end());
  sae::ProcessSpec spec = SpecOf(person, argv, {});
  spec.output = folder_ / absl::StrCat("out-", ++runs_);
  spec.errors = folder_ / absl::StrCat("err-", runs_);
  auto process = sae::Process::Spawn(spec);
  EXPECT_TRUE(process.ok()) << process.status();
  return std::make_unique<CliProcess>(*std::move(process), spec.output, spec.errors);
}

std::string CliWorld::Spec(const std::string& name, const std::string& k, std::int64_t steps,
                           const std::string& more, int ranks) {
  const std::string path = folder_ / (name + ".yaml");
  const std::string text = absl::StrCat(
      "apiVersion: saeloom/v1\nname: ", name, "\nstore: ", store(), "\ntrial:\n  ranks: ", ranks,
      "\n  sae: {architecture: topk, latents: 256}\n  train: {tokens: ", 128 * steps,
      ", batch: 128, log_every_steps: ", steps > 1000 ? 50 : 1,
      ", checkpoint_every_seconds: 0.3}\nparameters:\n  sae.k: {values: [", k,
      "]}\nobjective: {metric: heldout.fvu, goal: minimize}\npack: \"off\"\n", more);
  EXPECT_TRUE(sae::WriteFileAtomically(sae::RealEnv(), path, text).ok());
  return path;
}

CliRun CliTest::Ok(const std::string& person, const Arguments& args) {
  CliRun run = Run(person, args);
  EXPECT_EQ(run.code, 0) << ::testing::PrintToString(args) << run.out << run.err;
  return run;
}

json CliTest::Json(const std::string& person, Arguments args) {
  args.insert(args.end(), {"-o", "json"});
  return Ok(person, args).json();
}

json CliTest::Fails(const std::string& person, Arguments args, int exit_code,
                    const std::string& code) {
  args.insert(args.end(), {"-o", "json"});
  const CliRun run = Run(person, args);
  EXPECT_EQ(run.code, exit_code) << ::testing::PrintToString(args) << run.out << run.err;
  EXPECT_EQ(run.out, "") << ::testing::PrintToString(args);
  const json error = run.error();
  EXPECT_EQ(error.value("code", ""), code) << ::testing::PrintToString(args) << run.err;
  EXPECT_EQ(error.value("exit_code", -1), exit_code);
  EXPECT_NE(error.value("message", ""), "") << run.err;
  return error;
}

std::string CliTest::StateOf(const std::string& name) {
  const bool trial = name.find('/') != std::string::npos;
  const json told = Json("vera", {trial ? "trial" : "sweep", "get", name});
  return told.is_object() ? told.value("state", "") : "";
}

bool CliTest::Becomes(const std::string& name, const std::string& state) {
  return ProcessRig::WaitUntil([&] { return StateOf(name) == state || HasFailure(); });
}

bool CliTest::IsUnderWay(const std::string& trial, std::int64_t step) {
  return ProcessRig::WaitUntil([&] {
    const json told = Json("vera", {"trial", "get", trial});
    return HasFailure() ||
           (told.value("state", "") == "RUNNING" && told.value("step", std::int64_t{0}) > step);
  });
}

void CliTest::ExpectIdle() {
  EXPECT_TRUE(ProcessRig::WaitUntil([&] {
    const json worker = Json("vera", {"worker", "get", world().worker()});
    return HasFailure() || (worker.at("free_slots") == 2 && worker.at("attempts") == json::array());
  })) << world().Logs();
}

}  // namespace saeloom::e2e
