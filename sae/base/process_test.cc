#include "sae/base/process.h"

#include <csignal>
#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

#include "sae/base/env.h"
#include "sae/base/procfs.h"
#include "sae/base/signals.h"

namespace sae {
namespace {
namespace fs = std::filesystem;

constexpr absl::Duration kLong = absl::Seconds(30);  // a bound on a hang, never reached

ProcessSpec Shell(const std::string& script) { return {.argv = {"/bin/sh", "-c", script}}; }

class Folder {
 public:
  Folder() : path_(fs::temp_directory_path() / ("process_test." + std::to_string(::getpid()))) {
    fs::create_directories(path_);
  }
  ~Folder() { fs::remove_all(path_); }
  std::string operator/(const std::string& name) const { return (path_ / name).string(); }

 private:
  fs::path path_;
};

TEST(Process, ExitCodesAndSignals) {
  auto exits = Process::Spawn(Shell("exit 75"));
  ASSERT_TRUE(exits.ok()) << exits.status();
  const auto code = (*exits)->Wait(kLong);
  ASSERT_TRUE(code.ok() && code->has_value());
  EXPECT_EQ((*code)->ShellCode(), 75);
  EXPECT_EQ((*exits)->Wait(absl::ZeroDuration())->value().code, 75)
      << "asking again gives the same";
  EXPECT_EQ((*exits)->Signal(SIGTERM).code(), absl::StatusCode::kFailedPrecondition);

  auto killed = Process::Spawn(Shell("kill -9 $$"));
  ASSERT_TRUE(killed.ok());
  EXPECT_EQ((*killed)->Wait(kLong)->value().ShellCode(), 137);
}

TEST(Process, MissingProgramIsNotFound) {
  const auto p = Process::Spawn({.argv = {"/nowhere/at-all"}});
  EXPECT_EQ(p.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(Message(p.status()).find("/nowhere/at-all"), std::string::npos);
}

TEST(Process, EnvironmentFolderAndFiles) {
  Folder folder;
  ProcessSpec spec = Shell("pwd; echo \"$SAE_A,$SAE_B,$HOME\"; echo wrong >&2");
  spec.directory = "/";
  spec.environment = {{"SAE_A", "x y"}, {"HOME", "/there"}};
  spec.unset = {"SAE_B"};
  ::setenv("SAE_B", "parent", 1);
  spec.output = folder / "out";
  spec.errors = folder / "err";
  auto p = Process::Spawn(spec);
  ASSERT_TRUE(p.ok()) << p.status();
  EXPECT_EQ((*p)->Wait(kLong)->value().code, 0);
  EXPECT_EQ(*RealEnv().Read(folder / "out"), "/\nx y,,/there\n");
  EXPECT_EQ(*RealEnv().Read(folder / "err"), "wrong\n");
}

TEST(Process, RunsInASessionOfItsOwnWithNothingBlocked) {
  auto watcher = SignalWatcher::Create({SIGUSR2});
  ASSERT_TRUE(watcher.ok());
  auto p = Process::Spawn({.argv = {"/bin/sleep", "600"}});
  ASSERT_TRUE(p.ok());
  const auto info = ReadProcess((*p)->pid());
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(info->session, (*p)->pid());
  EXPECT_EQ(info->group, (*p)->pid());
  EXPECT_FALSE((*p)->Wait(absl::ZeroDuration())->has_value());
  // SIGUSR2 is blocked here; a child that inherited that would not die of it.
  EXPECT_TRUE((*p)->Signal(SIGUSR2).ok());
  EXPECT_EQ((*p)->Wait(kLong)->value().signal, SIGUSR2);
}

TEST(Process, DestroyingKillsTheGroup) {
  pid_t pid = 0;
  {
    ProcessSpec spec = Shell("sleep 600 & echo ready; wait");
    spec.capture = true;
    auto p = Process::Spawn(spec);
    ASSERT_TRUE(p.ok());
    pid = (*p)->pid();
    char line[6];
    ASSERT_EQ(::read((*p)->output_fd(), line, sizeof line), 6);
    EXPECT_EQ(FindProcesses({.session = pid}).size(), 2U);
  }
  for (int i = 0; i < 1000 && !FindProcesses({.session = pid}).empty(); ++i) ::usleep(10'000);
  EXPECT_TRUE(FindProcesses({.session = pid}).empty());
}

TEST(RunProcess, CapturesOutputAndTimesOut) {
  const auto run = RunProcess(Shell("echo one; echo two; exit 3"), kLong);
  ASSERT_TRUE(run.ok()) << run.status();
  EXPECT_EQ(run->output, "one\ntwo\n");
  EXPECT_EQ(run->exit.code, 3);
  EXPECT_EQ(RunProcess(Shell("sleep 600"), absl::Milliseconds(20)).status().code(),
            absl::StatusCode::kDeadlineExceeded);
}

TEST(FindSibling, FlagThenOwnFolderThenLibexec) {
  Folder folder;
  fs::create_directories(folder / "bin");
  fs::create_directories(folder / "libexec/saeloom");
  const auto program = [&](const std::string& path) {
    std::ofstream(path) << "#!/bin/sh\n";
    ::chmod(path.c_str(), 0755);
  };
  const auto find = [&](const std::string& flag) {
    return FindSibling(flag, "--tool", "tool", folder / "bin");
  };
  const auto missing = find("");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(Message(missing.status()).find("--tool"), std::string::npos);
  program(folder / "libexec/saeloom/tool");
  EXPECT_EQ(*find(""), folder / "libexec/saeloom/tool");
  program(folder / "bin/tool");
  EXPECT_EQ(*find(""), folder / "bin/tool");
  EXPECT_EQ(*find("/bin/sh"), "/bin/sh");
  EXPECT_EQ(find(folder / "bin").status().code(), absl::StatusCode::kNotFound)
      << "a folder is no program";
}

TEST(FindInPath, TakesTheFirst) {
  EXPECT_EQ(*FindInPath("", "--sh", "sh", "/nowhere::/bin:/usr/bin"), "/bin/sh");
  const auto missing = FindInPath("", "--mpirun", "no-such-program", "/bin");
  EXPECT_EQ(missing.status().code(), absl::StatusCode::kNotFound);
  EXPECT_NE(Message(missing.status()).find("--mpirun"), std::string::npos);
}

}  // namespace
}  // namespace sae
