#include "sae/config/events.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace sae::config {
namespace {

TEST(Event, RoundTripsWithNaN) {
  Event e{.seq = 3, .time = 1764083268.5, .kind = EventKind::kEvaluation, .step = 7, .tokens = 14336};
  e.values = {{"heldout.fvu", 0.25}, {"heldout.gamma", std::numeric_limits<double>::quiet_NaN()}};
  e.message = "two\nlines";
  const std::string line = ToJsonLine(e);
  EXPECT_EQ(line.find('\n'), line.size() - 1);
  const auto back = ParseEvent(line);
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(back->seq, 3);
  EXPECT_EQ(back->kind, EventKind::kEvaluation);
  EXPECT_EQ(back->time, 1764083268.5);
  EXPECT_EQ(back->values.at("heldout.fvu"), 0.25);
  EXPECT_TRUE(std::isnan(back->values.at("heldout.gamma")));
  EXPECT_EQ(back->message, "two\nlines");
}

TEST(Event, RefusesWhatIsNotOne) {
  for (const char* line : {"", "{", "[]", R"({"seq":1})", R"({"seq":0,"time":1,"kind":"metrics","step":0,"tokens":0})",
                           R"({"seq":1,"time":1,"kind":"odd","step":0,"tokens":0})"}) {
    EXPECT_EQ(ParseEvent(line).status().code(), absl::StatusCode::kInvalidArgument) << line;
  }
}

TEST(Event, VerdictsAreTheFourEndings) {
  EXPECT_TRUE(IsVerdict(EventKind::kFinished));
  EXPECT_TRUE(IsVerdict(EventKind::kYielded));
  EXPECT_FALSE(IsVerdict(EventKind::kCheckpoint));
}

}  // namespace
}  // namespace sae::config
