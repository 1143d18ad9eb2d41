// The service and saeloom-rsh as a process against it: what mpirun sees of a peer.
#include "worker/agent/peer_service.h"

#include <csignal>

#include <gmock/gmock.h>
#include <grpcpp/create_channel.h>
#include <grpcpp/security/credentials.h>
#include <gtest/gtest.h>

#include "proto/transport/credentials.h"
#include "proto/transport/testing/test_ca.h"
#include "worker/agent/testing/world.h"
#include "worker/rsh/peers_file.h"

namespace saeloom::agent {
namespace {

using testing::HasSubstr;
using testing::IsEmpty;

const AttemptKey kKey{"demo", "0000", 1};

class PeerServiceTest : public testing::Test {
 protected:
  PeerServiceTest() {
    options_ = {.clock = &sae::RealClock(),
                .reservations = &reservations_,
                .gang = world_.Gang("run"),
                .runs_id = world_.folder().path(),  // unique
                .worker_id = "w-1",
                .threads = 3};
    options_.gang.mpirun = "/usr/bin/mpirun";
    options_.gang.rsh = SAELOOM_RSH_PROGRAM;
    service_ = std::make_unique<PeerService>(options_);
    port_ = *service_->Start("127.0.0.1:0", grpc::InsecureServerCredentials());
    reservations_.Hold({kKey, "secret", 2, {"5", "6"}});
  }

  void ServeTls(const sae::TlsFiles& files) {
    options_.trust_domain = "saeloom";
    service_ = std::make_unique<PeerService>(options_);
    port_ = *service_->Start(
        "127.0.0.1:0", *sae::MakeServerCredentials(files, sae::ClientCertificates::kRequired));
    reservations_.TakeGone();  // ended with the service before
    reservations_.Hold({kKey, "secret", 2, {"5", "6"}});
  }

  std::unique_ptr<sae::Process> Rsh(const std::vector<std::string>& words,
                                    const std::string& token = "secret") {
    rsh::PeersFile peers{
        .sweep = kKey.sweep,
        .trial = kKey.trial,
        .attempt = kKey.attempt,
        .token = token,
        .addresses = {{"b", absl::StrCat("127.0.0.1:", port_)}, {"nobody", "127.0.0.1:1"}},
        .connect_seconds = words[0] == "nobody" ? 0.2 : connect_seconds_};
    peers.cert = tls_.cert;
    peers.key = tls_.key;
    peers.ca = tls_.ca;
    const std::string path = world_.folder() / "peers.json";
    EXPECT_TRUE(rsh::WritePeersFile(path, peers).ok());
    sae::ProcessSpec spec;
    spec.argv = {SAELOOM_RSH_PROGRAM};
    spec.argv.insert(spec.argv.end(), words.begin(), words.end());
    spec.environment[rsh::kPeersVariable] = path;
    spec.output = world_.folder() / "out";
    spec.errors = world_.folder() / "err";
    auto process = sae::Process::Spawn(spec);
    EXPECT_TRUE(process.ok()) << process.status();
    return *std::move(process);
  }
  static int CodeOf(sae::Process& process) {
    const auto exit = process.Wait(absl::Seconds(60));
    return exit.ok() && exit->has_value() ? (*exit)->ShellCode() : -1;
  }
  std::string Errors() const { return sae::RealEnv().Read(world_.folder() / "err").value_or(""); }
  std::vector<sae::ProcessInfo> Running() const {
    return sae::FindProcesses({.marks = PeerMarks(kKey, options_.runs_id, "w-1")});
  }
  bool Started() const {
    return Eventually([&] {
      for (const auto& p : Running()) {
        if (p.name == "sleep") return true;
      }
      return false;
    });
  }

  World world_;
  sae::TlsFiles tls_;  ///< of the caller
  double connect_seconds_ = 60;
  Reservations reservations_;
  PeerService::Options options_;
  std::unique_ptr<PeerService> service_;
  int port_ = 0;
};

TEST_F(PeerServiceTest, WordsGoToAShellAndOutputAndCodeComeBack) {
  auto rsh = Rsh({"b", " echo", "-mca", "x", "\"1;2\";", "echo oops >&2; exit", "7"});
  EXPECT_EQ(CodeOf(*rsh), 7);
  EXPECT_EQ(Errors(), "-mca x 1;2\noops\n");
  EXPECT_THAT(Running(), IsEmpty());
}

TEST_F(PeerServiceTest, RanksGetTheEnvironmentOfTheirHost) {
  auto rsh =
      Rsh({"b", "echo $CUDA_VISIBLE_DEVICES $OMP_NUM_THREADS $SAELOOM_ATTEMPT $SAELOOM_WORKER"});
  EXPECT_EQ(CodeOf(*rsh), 0);
  EXPECT_EQ(Errors(), "5,6 3 demo/0000/1 w-1\n");
}

TEST_F(PeerServiceTest, AnotherTokenOrAttemptRunsNothing) {
  EXPECT_EQ(CodeOf(*Rsh({"b", "touch", world_.folder() / "ran"}, "guess")), 255);
  EXPECT_THAT(Errors(), HasSubstr("host b (127.0.0.1:"));
  EXPECT_THAT(Errors(), HasSubstr("the token is not the one of its preparation"));
  reservations_.End(kKey);
  EXPECT_EQ(CodeOf(*Rsh({"b", "touch", world_.folder() / "ran"})), 255);
  EXPECT_THAT(Errors(), HasSubstr("is not prepared on this worker"));
  EXPECT_FALSE(sae::RealEnv().Exists(world_.folder() / "ran"));
}

TEST_F(PeerServiceTest, OverTlsOnlyWorkersAreHeard) {
  sae::testing::TestCa ca;
  const std::string folder = world_.folder().path();
  ServeTls(ca.Write(folder + "/b", ca.IssueWorker("b")));
  tls_ = ca.Write(folder + "/a", ca.IssueWorker("a"));
  EXPECT_EQ(CodeOf(*Rsh({"b", "exit", "7"})), 7) << Errors();
  tls_ = ca.Write(folder + "/c", ca.Issue());  // signed, but no worker's
  EXPECT_EQ(CodeOf(*Rsh({"b", "touch", world_.folder() / "ran"})), 255);
  EXPECT_THAT(Errors(), HasSubstr("names no spiffe://saeloom/worker/NAME"));
  EXPECT_FALSE(sae::RealEnv().Exists(world_.folder() / "ran"));
}

TEST_F(PeerServiceTest, AHostThatCannotBeReachedIsSaidInTime) {
  EXPECT_EQ(CodeOf(*Rsh({"elsewhere", "true"})), 255);
  EXPECT_THAT(Errors(), HasSubstr("host elsewhere is no peer of this gang"));
  EXPECT_EQ(CodeOf(*Rsh({"nobody", "true"})), 255);
  EXPECT_THAT(Errors(), HasSubstr("host nobody (127.0.0.1:1) cannot be reached within 200ms"));
  EXPECT_THAT(Errors(), HasSubstr("Connection refused"));
}

TEST_F(PeerServiceTest, APeerOfAnotherCaIsRefusedAndBothWaysSayWhy) {
  const std::string folder = world_.folder() / "tls";
  sae::testing::TestCa ours, theirs;
  ServeTls(ours.Write(folder + "/a", ours.IssueWorker("a")));
  connect_seconds_ = 1;
  // It believes the peer, but the peer does not believe it.
  tls_ = theirs.Write(folder + "/b", theirs.IssueWorker("b"));
  tls_.ca = folder + "/a/ca.pem";
  EXPECT_EQ(CodeOf(*Rsh({"b", "touch", world_.folder() / "ran"})), 255);
  EXPECT_THAT(Errors(), HasSubstr("is signed by a CA that the other side knows"));
  // It does not believe the peer.
  tls_ = ours.Write(folder + "/c", ours.IssueWorker("c"));
  tls_.ca = folder + "/b/ca.pem";
  EXPECT_EQ(CodeOf(*Rsh({"b", "touch", world_.folder() / "ran"})), 255);
  EXPECT_THAT(Errors(), HasSubstr("check that the CA file (" + tls_.ca));
  EXPECT_FALSE(sae::RealEnv().Exists(world_.folder() / "ran"));
}

TEST_F(PeerServiceTest, ABrokenStreamEndsAllThatRan) {
  // The stray leaves the session, and with it the group.
  auto rsh = Rsh({"b", "setsid sleep 600 & sleep 600"});
  ASSERT_TRUE(Started());
  ASSERT_TRUE(rsh->Signal(SIGKILL).ok());
  EXPECT_EQ(CodeOf(*rsh), 137);
  EXPECT_TRUE(Eventually([&] { return Running().empty(); }));
  reservations_.End(kKey);
  EXPECT_TRUE(Eventually([&] { return !reservations_.TakeGone().empty(); }));
}

TEST_F(PeerServiceTest, AnEndedReservationEndsWhatRan) {
  auto rsh = Rsh({"b", "sleep 600"});
  ASSERT_TRUE(Started());
  EXPECT_TRUE(reservations_.TakeGone().empty());
  reservations_.End(kKey);
  EXPECT_EQ(CodeOf(*rsh), 255);
  EXPECT_THAT(Errors(), HasSubstr("the command was ended"));
  EXPECT_TRUE(Eventually([&] { return !reservations_.TakeGone().empty(); }));
  EXPECT_THAT(Running(), IsEmpty()) << "what is gone has no process left";
  EXPECT_FALSE(reservations_.Holds(kKey));
}

TEST_F(PeerServiceTest, AKilledDaemonIsToldWithItsCode) {
  auto rsh = Rsh({"b", "exec sleep 600"});
  ASSERT_TRUE(Started());
  for (const auto& p : Running()) {
    if (p.name == "sleep") ::kill(p.pid, SIGKILL);
  }
  EXPECT_EQ(CodeOf(*rsh), 137);
}

TEST_F(PeerServiceTest, StopEndsEverything) {
  auto rsh = Rsh({"b", "sleep 600"});
  ASSERT_TRUE(Started());
  service_->Stop();
  EXPECT_EQ(CodeOf(*rsh), 255);
  EXPECT_THAT(Running(), IsEmpty());
}

TEST_F(PeerServiceTest, ATakenAddressIsNamed) {
  PeerService other(options_);
  const auto status =
      other.Start(absl::StrCat("127.0.0.1:", port_), grpc::InsecureServerCredentials()).status();
  EXPECT_THAT(sae::Message(status), HasSubstr(absl::StrCat("--peer-listen 127.0.0.1:", port_)));
}

// The guard is what ends a command whose worker died: its parent is gone, and SIGTERM comes.
TEST_F(PeerServiceTest, TheGuardEndsWhatItRuns) {
  sae::ProcessSpec spec;
  spec.argv = {SAELOOM_RSH_PROGRAM, "--guard", absl::StrCat(::getpid()),
               "setsid sleep 600 & sleep 600"};
  for (const std::string& mark : PeerMarks(kKey, options_.runs_id, "w-1"))
    spec.environment[mark.substr(0, mark.find('='))] = mark.substr(mark.find('=') + 1);
  auto guard = sae::Process::Spawn(spec);
  ASSERT_TRUE(guard.ok());
  ASSERT_TRUE(Started());
  ASSERT_TRUE((*guard)->Signal(SIGTERM).ok());
  EXPECT_EQ(CodeOf(**guard), 137);
  EXPECT_THAT(Running(), IsEmpty());
  spec.argv[2] = "1";
  guard = sae::Process::Spawn(spec);
  ASSERT_TRUE(guard.ok());
  EXPECT_EQ(CodeOf(**guard), 255) << "another parent";
}

TEST(Reservations, HoldSlotsAndGpusUntilTheLastCommandHasEnded) {
  Reservations r;
  r.Hold({kKey, "t", 2, {"0", "1"}});
  r.Hold({{"demo", "0001", 1}, "u", 1, {"2"}});
  EXPECT_EQ(r.slots(), 3);
  EXPECT_EQ(r.gpus().size(), 3U);
  EXPECT_TRUE(absl::IsPermissionDenied(r.Enter(kKey, "u").status()));
  EXPECT_TRUE(absl::IsNotFound(r.Enter({"demo", "0009", 1}, "t").status()));
  ASSERT_TRUE(r.Enter(kKey, "t").ok());
  r.EndIdle();
  EXPECT_EQ(r.TakeGone(), (std::vector<AttemptKey>{{"demo", "0001", 1}}));
  EXPECT_TRUE(r.Wanted(kKey));
  r.End(kKey);
  EXPECT_FALSE(r.Wanted(kKey));
  EXPECT_TRUE(r.TakeGone().empty());
  EXPECT_EQ(r.slots(), 2);
  EXPECT_TRUE(absl::IsNotFound(r.Enter(kKey, "t").status())) << "nothing new begins";
  r.Leave(kKey);
  EXPECT_EQ(r.TakeGone(), (std::vector<AttemptKey>{kKey}));
  EXPECT_EQ(r.slots(), 0);
  r.Hold({kKey, "", 1, {}});
  EXPECT_TRUE(absl::IsPermissionDenied(r.Enter(kKey, "").status())) << "no token is no key";
  EXPECT_TRUE(r.Take(kKey));
  EXPECT_FALSE(r.Take(kKey));
}

}  // namespace
}  // namespace saeloom::agent
