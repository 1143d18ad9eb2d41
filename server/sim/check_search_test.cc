// I9 on a search made by hand: its decisions as they have to be, and otherwise.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "server/sim/checker.h"

namespace sae::server::sim {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Three trials with rungs at 250, 500 and 1000 tokens; of two at a rung, the better goes on.
constexpr char kSearchSpec[] = R"({"apiVersion": "saeloom/v1", "name": "s", "store": "/d",
  "trial": {"sae": {"architecture": "topk", "latents": 64, "k": 4},
            "train": {"tokens": 1000, "batch": 10}},
  "parameters": {"train.seed": {"intUniform": {"min": 0, "max": 1000}}},
  "objective": {"metric": "heldout.fvu", "goal": "minimize"},
  "search": {"asha": {"maxTrials": 4, "mode": "MODE", "eta": 2, "maxRungs": 3}}})";

class CheckSearchTest : public ::testing::Test {
 protected:
  void Begin(const std::string& mode) {
    SweepCreated created;
    created.spec = kSearchSpec;
    created.spec.replace(created.spec.find("MODE"), 4, mode);
    created.points.resize(4);
    Add("", created);
    for (const char* trial : {"0000", "0001", "0002"}) Allocate(trial, 1);
  }
  void Add(const std::string& trial, Body body) {
    const auto seq = static_cast<std::int64_t>(h.log.size()) + 1;
    h.log.push_back({"s", seq, absl::UnixEpoch(), trial, std::move(body)});
  }
  void Allocate(const std::string& trial, int attempt) {
    AttemptAllocated e;
    e.attempt = attempt;
    e.worker = "a";
    e.slots = 1;
    Add(trial, e);
  }
  void Report(const std::string& trial, std::int64_t tokens, double value) {
    Add(trial, SearchReport{1, tokens / 10, tokens, value, true});
  }
  void Decide(const std::string& trial, const std::string& decision, int rung = 1) {
    Add(trial, SearchDecided{rung, 0, decision});
  }
  void Pause(const std::string& trial) {
    AttemptEnded e;
    e.attempt = 1;
    e.next = TrialState::kPaused;
    Add(trial, e);
  }

  History h;
};

TEST_F(CheckSearchTest, DecisionsThatFollowFromTheLog) {
  Begin("stop");
  Report("0000", 250, 0.5);
  Decide("0000", "continue");
  Report("0001", 250, 0.6);
  Decide("0001", "stop");
  Report("0002", 250, 0.4);
  Decide("0002", "continue");
  EXPECT_THAT(CheckSearch(h), IsEmpty());
}

TEST_F(CheckSearchTest, OneThatForgotWhatItWasTold) {
  Begin("stop");
  Report("0000", 250, 0.5);
  Decide("0000", "continue");
  Report("0001", 250, 0.6);
  Decide("0001", "continue");  // as if it were the first at the rung
  EXPECT_THAT(CheckSearch(h), ElementsAre(HasSubstr("it says continue at rung 1, the log before "
                                                    "it gives stop of trial 1 at rung 1")));
}

TEST_F(CheckSearchTest, OneThatWasNotTaken) {
  Begin("stop");
  Report("0000", 250, 0.5);
  Report("0001", 250, 0.4);
  EXPECT_THAT(CheckSearch(h), ElementsAre(HasSubstr("trial 0 was to be told to continue")));
}

TEST_F(CheckSearchTest, OneThatNothingAskedFor) {
  Begin("stop");
  Decide("0000", "stop");
  EXPECT_THAT(CheckSearch(h), ElementsAre(HasSubstr("the log before it gives nothing")));
}

TEST_F(CheckSearchTest, APromotionOfTheBestAndOfAnother) {
  Begin("promote");
  for (const auto& [trial, value] : {std::pair{"0000", 0.5}, {"0001", 0.4}}) {
    Report(trial, 250, value);
    Decide(trial, "pause");
    Pause(trial);
  }
  Decide("0001", "promote", 2);
  EXPECT_THAT(CheckSearch(h), IsEmpty());
  h.log.back().trial = "0000";
  EXPECT_THAT(CheckSearch(h), ElementsAre(HasSubstr("it gives promote of trial 1 at rung 2")));
}

TEST_F(CheckSearchTest, ATrialThatStartsAgainstWhatTheSearchSaid) {
  Begin("promote");
  Report("0000", 250, 0.5);
  Decide("0000", "pause");
  Pause("0000");
  Allocate("0000", 2);
  EXPECT_THAT(CheckSearch(h), ElementsAre(HasSubstr("the search had said pause")));
  h.log.back().body = TrialResumed{};
  Allocate("0000", 2);
  EXPECT_THAT(CheckSearch(h), IsEmpty());
}

}  // namespace
}  // namespace sae::server::sim
