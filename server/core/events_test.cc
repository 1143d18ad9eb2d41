#include "server/core/events.h"

#include <cmath>
#include <limits>

#include <gtest/gtest.h>

namespace sae::server {
namespace {

std::vector<Body> OneOfEach() {
  AttemptAllocated allocated{1, "w", "runs", "/runs", 6, "", {{"w", 4}, {"v", 2}}, "secret"};
  SweepUpdated updated;
  updated.priority = 7;
  updated.labels = std::map<std::string, std::string>{{"model", "gpt2"}};
  AttemptEnded ended;
  ended.attempt = 2;
  ended.outcome = "failed";
  ended.reason = "exit code 9 \"quoted\"\n";
  ended.failure_class = FailureClass::kOomHost;
  ended.charge = Charge::kWorker;
  ended.next = TrialState::kPending;
  ended.delay = absl::Milliseconds(1500);
  ended.log_tail = {"a", "\xc3\xa9"};
  return {
      SweepCreated{
          R"({"name":"s"})", {{{"sae.k", "8"}, {"train.lr", "0.001"}}, {}}, "ann", "a/0001/step-5"},
      SweepChanged{SweepState::kFailed},
      CancelRequested{true},
      TrialRetried{},
      TrialCancelled{},
      allocated,
      AttemptStarting{1},
      AttemptRunning{3, 120},
      Rewound{3, 120},
      CheckpointSaved{1, "step-5", 5, 5000, 1.5, 123456},
      AttemptVerdict{1, "finished", "", 100},
      ended,
      Notice{0, "text", {"one", "two"}, "write"},
      Point{1, 7, 7000, true, {{"heldout.fvu", 0.25}, {"heldout.l0", 31.875}}},
      updated,
      StopRequested{2, StopWanted::kPreempt, "sweep big needs its slots"},
      TrialResumed{"promoted"},
      TrialPaused{"paused"},
      PointsAdded{{{{"sae.k", "16"}}}},
      SearchReport{1, 10, 10000, 0.5, false},
      SearchDecided{2, 0.5, "promote"},
      AttemptPrepared{1},
      CheckpointMarked{"step-5", true, std::nullopt},
      CheckpointsDeleted{{"step-1", "step-2"}},
      SweepDeleted{},
      QueueUpdated{"research", 16, 2.5},
      WorkerCordoned{"w", "3 GPU faults", true, false},
      WorkerUncordoned{"w"}};
}

TEST(LogEvents, EveryKindSurvivesJson) {
  const std::vector<Body> bodies = OneOfEach();
  ASSERT_EQ(bodies.size(), std::variant_size_v<Body>);
  for (const Body& body : bodies) {
    const std::string json = BodyToJson(body);
    const auto back = ParseBody(KindOf(body), json);
    ASSERT_TRUE(back.ok()) << back.status();
    EXPECT_EQ(back->index(), body.index());
    EXPECT_EQ(BodyToJson(*back), json) << KindOf(body);
    EXPECT_EQ(json.find('\n'), std::string::npos);
  }
}

TEST(LogEvents, FieldsKeepTheirValues) {
  const auto back = ParseBody("attempt_ended", BodyToJson(OneOfEach()[11]));
  ASSERT_TRUE(back.ok()) << back.status();
  const auto& ended = std::get<AttemptEnded>(*back);
  EXPECT_EQ(ended.failure_class, FailureClass::kOomHost);
  EXPECT_EQ(ended.charge, Charge::kWorker);
  EXPECT_EQ(ended.delay, absl::Milliseconds(1500));
  EXPECT_EQ(ended.reason, "exit code 9 \"quoted\"\n");
  EXPECT_EQ(ended.log_tail.size(), 2u);
}

TEST(LogEvents, WhatIsNewIsAbsentFromOldForms) {
  const auto old =
      ParseBody("attempt_allocated", BodyToJson(AttemptAllocated{1, "w", "r", "/r", 2}));
  ASSERT_TRUE(old.ok());
  EXPECT_TRUE(std::get<AttemptAllocated>(*old).hosts.empty());
  EXPECT_FALSE(std::get<CancelRequested>(*ParseBody("cancel_requested", "{}")).graceful);
  const auto back = ParseBody("attempt_allocated", BodyToJson(OneOfEach()[5]));
  ASSERT_TRUE(back.ok());
  EXPECT_EQ(std::get<AttemptAllocated>(*back).hosts, (std::vector<HostShare>{{"w", 4}, {"v", 2}}));
  const auto updated = ParseBody("sweep_updated", BodyToJson(OneOfEach()[14]));
  ASSERT_TRUE(updated.ok());
  EXPECT_EQ(std::get<SweepUpdated>(*updated).priority, 7);
  EXPECT_FALSE(std::get<SweepUpdated>(*updated).queue.has_value());
}

TEST(LogEvents, NonFiniteValuesSurvive) {
  Point point;
  point.values = {{"a", std::nan("")},
                  {"b", std::numeric_limits<double>::infinity()},
                  {"c", -std::numeric_limits<double>::infinity()}};
  const auto back = ParseBody("point", BodyToJson(point));
  ASSERT_TRUE(back.ok());
  const auto& values = std::get<Point>(*back).values;
  EXPECT_TRUE(std::isnan(values.at("a")));
  EXPECT_EQ(values.at("b"), std::numeric_limits<double>::infinity());
  EXPECT_EQ(values.at("c"), -std::numeric_limits<double>::infinity());
}

TEST(LogEvents, DamageIsDataLoss) {
  EXPECT_EQ(ParseBody("no_such_kind", "{}").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ParseBody("point", "{").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ParseBody("point", "{}").status().code(), absl::StatusCode::kDataLoss);
  EXPECT_EQ(ParseBody("sweep_changed", R"({"state":"SLEEPING"})").status().code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace sae::server
