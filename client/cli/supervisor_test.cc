// `saeloom up` as a user runs it: the real program, with shell scripts in place of coordinator and
// worker.

#include "client/cli/supervisor.h"

#include <arpa/inet.h>
#include <csignal>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <sys/socket.h>
#include <unistd.h>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "client/cli/testing/world.h"
#include "sae/base/procfs.h"

namespace sae::cli {
namespace {
using ::testing::HasSubstr;
using ::testing::Not;

constexpr char kCoordinator[] = R"(#!/bin/bash
trap 'echo term >> "$DIR/coordinator.term"; exit 0' TERM
args="$*"
while [ $# -gt 0 ]; do case "$1" in --listen) listen=$2;; --port-file) file=$2;; --data) data=$2;; esac; shift; done
export DIR=${data%/*}
echo "$args" >> "$DIR/coordinator.args"
port=${listen##*:}
[ "$port" = 0 ] && port=$((20000 + $$ % 10000))
echo "{\"listen\": \"127.0.0.1:$port\", \"metrics\": \"127.0.0.1:1\", \"pid\": $$}" > "$file.tmp"
mv "$file.tmp" "$file"
while :; do sleep 0.05; done
)";

/// Its "gang" is in a session of its own, as mpirun's is.
constexpr char kWorker[] = R"(#!/bin/bash
args="$*"
while [ $# -gt 0 ]; do case "$1" in --runs) runs=$2;; --name) name=$2;; esac; shift; done
setsid sleep 1000 &
gang=$!
trap 'kill $gang; echo term >> "${runs%/*}/$name.term"; exit 0' TERM
echo "$args" >> "${runs%/*}/$name.args"
while :; do sleep 0.05; done
)";

constexpr char kStubborn[] = R"(#!/bin/bash
trap '' TERM
while [ $# -gt 0 ]; do case "$1" in --runs) runs=$2;; esac; shift; done
setsid sleep 1000 &
echo up > "${runs%/*}/stubborn"
while :; do sleep 0.05; done
)";

class UpTest : public ::testing::Test {
 protected:
  UpTest() : dir_(t_.directory + "/state") {
    coordinator_ = t_.Write("coordinator.sh", kCoordinator, true);
    worker_ = t_.Write("worker.sh", kWorker, true);
  }
  ~UpTest() override {
    up_.reset();
    SignalProcesses({0, {Mark()}}, SIGKILL);
  }

  std::string Mark() const { return "SAELOOM_UP=" + dir_; }
  std::string Read(const std::string& path) const { return RealEnv().Read(path).value_or(""); }
  std::string Out() const { return Read(t_.directory + "/up.out"); }
  std::string Err() const { return Read(t_.directory + "/up.err"); }

  /// Asks again and again, for at most half a minute.
  static bool Eventually(const std::function<bool()>& done) {
    const absl::Duration deadline = RealClock().SinceBoot() + absl::Seconds(30);
    while (!done()) {
      if (RealClock().SinceBoot() > deadline) return false;
      RealClock().SleepFor(absl::Milliseconds(20));
    }
    return true;
  }
  bool NothingLeft() const {
    return Eventually([&] { return FindProcesses({0, {Mark()}}).empty(); });
  }

  std::unique_ptr<Process> Spawn(std::vector<std::string> more, const std::string& name = "up") {
    ProcessSpec spec;
    spec.argv = {SAELOOM_BINARY,         "up",         "--dir",           dir_,
                 "--coordinator-binary", coordinator_, "--worker-binary", worker_};
    spec.argv.insert(spec.argv.end(), more.begin(), more.end());
    spec.output = t_.directory + "/" + name + ".out";
    spec.errors = t_.directory + "/" + name + ".err";
    return *Process::Spawn(spec);
  }
  void Start(std::vector<std::string> more = {}) {
    up_ = Spawn(std::move(more));
    ASSERT_TRUE(Eventually([&] { return !Read(dir_ + "/address").empty(); })) << Err();
  }
  int End(Process& process) {
    const auto exit = process.Wait(absl::Seconds(60));
    return exit.ok() && *exit ? (*exit)->ShellCode() : -1;
  }
  pid_t PidOf(const std::string& script) const {
    for (const ProcessInfo& p : FindProcesses({0, {Mark()}})) {
      if (p.name == script) return p.pid;
    }
    return 0;
  }

  testing::TestWorld t_;
  std::string dir_, coordinator_, worker_;
  std::unique_ptr<Process> up_;
};

TEST_F(UpTest, SaysWhereItIsAndEndsEverythingOnCtrlC) {
  Start({"--workers", "2", "--slots", "3"});
  const std::string address = Read(dir_ + "/address");
  ASSERT_TRUE(Eventually([&] { return !Out().empty(); }));  // printed once the file is there
  EXPECT_EQ(Out(), "SAELOOM_ADDR=" + address);
  ASSERT_TRUE(Eventually([&] {
    return !Read(dir_ + "/worker-0.args").empty() && !Read(dir_ + "/worker-1.args").empty();
  }));
  EXPECT_THAT(Read(dir_ + "/worker-1.args"),
              HasSubstr("--runs " + dir_ + "/runs --name worker-1 --slots 3 --coordinator " +
                        address.substr(0, address.size() - 1) +
                        " --metrics-listen 127.0.0.1:0 --port-file"));
  EXPECT_EQ(
      "127.0.0.1:" + nlohmann::json::parse(Read(dir_ + "/ports.json"))["coordinator"].dump() + "\n",
      address);
  ASSERT_TRUE(up_->Signal(SIGINT).ok());
  EXPECT_EQ(End(*up_), 0) << Err();
  EXPECT_EQ(Read(dir_ + "/worker-0.term"), "term\n");
  EXPECT_EQ(Read(dir_ + "/worker-1.term"), "term\n");
  EXPECT_EQ(Read(dir_ + "/coordinator.term"), "term\n");
  EXPECT_TRUE(FindProcesses({0, {Mark()}}).empty());
  EXPECT_FALSE(RealEnv().Exists(dir_ + "/address"));
}

TEST_F(UpTest, StartsADeadChildAgainOnTheSamePort) {
  Start();
  const std::string address = Read(dir_ + "/address");
  ASSERT_TRUE(Eventually([&] { return !Read(dir_ + "/worker-0.args").empty(); }));
  for (const char* script : {"coordinator.sh", "worker.sh"}) {
    const pid_t pid = PidOf(script);
    ASSERT_GT(pid, 0) << script;
    ASSERT_EQ(::kill(pid, SIGKILL), 0);
    ASSERT_TRUE(Eventually([&] { return PidOf(script) != 0 && PidOf(script) != pid; })) << Err();
  }
  EXPECT_THAT(Err(), HasSubstr("coordinator ended (signal 9): starting it again in 500ms"));
  EXPECT_THAT(Err(), HasSubstr("worker-0 ended (signal 9): starting it again"));
  const std::string again = "--listen " + address.substr(0, address.size() - 1);
  ASSERT_TRUE(Eventually(
      [&] { return Read(dir_ + "/coordinator.args").find(again) != std::string::npos; }));
  ASSERT_TRUE(up_->Signal(SIGTERM).ok());
  EXPECT_EQ(End(*up_), 0);
  EXPECT_TRUE(FindProcesses({0, {Mark()}}).empty());
  Start();  // and so does the next `up`
  EXPECT_EQ(Read(dir_ + "/address"), address);
}

TEST_F(UpTest, ASecondOneIsToldWhoHasTheFolder) {
  Start({"--workers", "0"});
  const auto second = Spawn({}, "second");
  EXPECT_EQ(End(*second), 5);
  const std::string error = Read(t_.directory + "/second.err");
  EXPECT_THAT(error, HasSubstr(dir_ + " is in use by another `saeloom up` (process " +
                               std::to_string(up_->pid()) + ") at 127.0.0.1:"));
  EXPECT_EQ(Read(t_.directory + "/second.out"), "");
  EXPECT_NE(PidOf("coordinator.sh"), 0);  // the first one goes on
}

TEST_F(UpTest, TheSecondCtrlCEndsAllAtOnce) {
  worker_ = t_.Write("stubborn.sh", kStubborn, true);
  Start();
  ASSERT_TRUE(Eventually([&] { return !Read(dir_ + "/stubborn").empty(); }));
  ASSERT_TRUE(up_->Signal(SIGINT).ok());
  ASSERT_TRUE(Eventually([&] { return Err().find("stopping: ") != std::string::npos; }));
  ASSERT_TRUE(up_->Signal(SIGINT).ok());
  EXPECT_EQ(End(*up_), 0);
  EXPECT_THAT(Err(), HasSubstr("stopping at once"));
  EXPECT_TRUE(FindProcesses({0, {Mark()}}).empty());  // also the gang in its own session
}

TEST_F(UpTest, ChildrenEndWhenItIsKilledAndTheNextOneWorks) {
  Start();
  ASSERT_TRUE(Eventually([&] { return !Read(dir_ + "/worker-0.args").empty(); }));
  ASSERT_TRUE(up_->Signal(SIGKILL).ok());
  EXPECT_EQ(End(*up_), 137);
  EXPECT_TRUE(NothingLeft());
  ASSERT_TRUE(RealEnv().RemoveAll(dir_ + "/address").ok());
  Start();
}

TEST_F(UpTest, WhatAKilledOneLeftBehindIsEndedByTheNext) {
  worker_ = t_.Write("stubborn.sh", kStubborn, true);
  Start();
  ASSERT_TRUE(Eventually([&] { return !Read(dir_ + "/stubborn").empty(); }));
  const pid_t old = PidOf("stubborn.sh");
  ASSERT_TRUE(up_->Signal(SIGKILL).ok());
  EXPECT_EQ(End(*up_), 137);
  ASSERT_TRUE(RealEnv().RemoveAll(dir_ + "/address").ok());
  Start({"--workers", "0"});
  EXPECT_FALSE(ReadProcess(old).ok() && ReadProcess(old)->alive());
  EXPECT_THAT(Err(), HasSubstr("that an earlier run left behind"));
}

TEST_F(UpTest, ACoordinatorThatCannotStartIsShownWithTheEndOfItsLog) {
  coordinator_ = t_.Write(
      "bad.sh", "#!/bin/bash\necho starting\necho 'cannot open database' >&2\nexit 5\n", true);
  up_ = Spawn({});
  EXPECT_EQ(End(*up_), 1);
  EXPECT_THAT(Err(), HasSubstr("the coordinator ended before it was ready (exit code 5)"));
  EXPECT_THAT(Err(), HasSubstr("  | cannot open database"));
  EXPECT_EQ(Out(), "");
  EXPECT_TRUE(FindProcesses({0, {Mark()}}).empty());
}

TEST_F(UpTest, AKeptPortThatIsInUseIsAClearError) {
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  ASSERT_EQ(::bind(fd, reinterpret_cast<const sockaddr*>(&address), size), 0);
  ASSERT_EQ(::listen(fd, 1), 0);
  ASSERT_EQ(::getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size), 0);
  const std::string port = std::to_string(ntohs(address.sin_port));
  t_.Write("state/ports.json", "{\"coordinator\": " + port + "}");
  up_ = Spawn({});
  EXPECT_EQ(End(*up_), 5);
  EXPECT_THAT(Err(), HasSubstr("the coordinator's port " + port + " is in use"));
  EXPECT_THAT(Err(), HasSubstr("delete " + dir_ + "/ports.json"));
  const auto flag = Spawn({"--port", port}, "flag");
  EXPECT_EQ(End(*flag), 5);
  EXPECT_THAT(Read(t_.directory + "/flag.err"), HasSubstr("choose another with --port"));
  ::close(fd);
}

TEST(PortFile, BothForms) {
  const PortFile a =
      ParsePortFile("{\"listen\": \"127.0.0.1:51\", \"metrics\": \"127.0.0.1:52\", \"pid\": 99}\n");
  EXPECT_EQ(a.listen, 51);
  EXPECT_EQ(a.metrics, 52);
  EXPECT_EQ(ParsePortFile("40123\n").listen, 40123);
  EXPECT_EQ(ParsePortFile("127.0.0.1:5 127.0.0.1:6").metrics, 6);
  EXPECT_EQ(ParsePortFile("").listen, 0);
  EXPECT_EQ(ParsePortFile("{\"listen\": \"127.0.0.1:999999\"}").listen, 0);
}

}  // namespace
}  // namespace sae::cli
