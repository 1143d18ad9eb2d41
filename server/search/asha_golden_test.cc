// Against tests/golden/asha.jsonl (record_asha.py wrote it): the same decision on every line of 40
// seeds in both modes.
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include <gtest/gtest.h>

#include "server/search/asha.h"

namespace sae::server::search {
namespace {
using nlohmann::json;

AshaShape ShapeOf(const json& line) {
  AshaShape shape;
  line.at("rungs").get_to(shape.tokens);
  shape.eta = line.at("eta");
  return shape;
}

/// Told a measurement at its rung's time; the one decision that follows.
std::string Report(Searcher& searcher, const AshaShape& shape, const json& step) {
  const int rung = step[1];
  const auto out = searcher.Tell(
      {Input::Kind::kReport, step[0], shape.tokens[static_cast<std::size_t>(rung) - 1], step[2]});
  if (out.size() != 1) return absl::StrCat(out.size(), " decisions");
  EXPECT_EQ(out[0].rung, rung);
  return ToString(out[0].action);
}

int CheckStop(const json& line) {
  AshaStop searcher(ShapeOf(line));
  int checked = 0;
  for (const json& step : line.at("steps")) {
    EXPECT_EQ(Report(searcher, ShapeOf(line), step), step[3]) << step.dump();
    ++checked;
  }
  return checked;
}

int CheckPromote(const json& line) {
  const AshaShape shape = ShapeOf(line);
  AshaPromote searcher(shape);
  const auto any = [](int) { return true; };
  int checked = 0;
  for (const json& step : line.at("steps")) {
    const std::string what = step[3];
    ++checked;
    if (what == "pause" || what == "stop") {
      EXPECT_EQ(Report(searcher, shape, step), what) << step.dump();
      continue;
    }
    const auto next = searcher.NextPromotion(any);
    if (what != "promote") {  // a fresh trial, or nothing, because no one can be promoted
      EXPECT_FALSE(next.has_value()) << step.dump();
      continue;
    }
    EXPECT_EQ(next, (Decision{step[0], step[1], Action::kPromote})) << step.dump();
    searcher.Tell({Input::Kind::kResumed, step[0]});
  }
  return checked;
}

TEST(AshaGolden, DecidesAsRecordedOnEveryLine) {
  std::ifstream in(SAE_SOURCE_DIR "/tests/golden/asha.jsonl");
  ASSERT_TRUE(in.good());
  std::map<std::string, std::set<int>> seeds;
  std::map<std::string, int> checked;
  for (std::string text; std::getline(in, text);) {
    const json line = json::parse(text);
    const std::string mode = line.at("mode");
    SCOPED_TRACE(::testing::Message() << mode << " seed " << line.at("seed"));
    seeds[mode].insert(line.at("seed").get<int>());
    checked[mode] += mode == "stop" ? CheckStop(line) : CheckPromote(line);
    if (HasFailure()) return;
  }
  EXPECT_EQ(seeds["stop"].size(), 40U);
  EXPECT_EQ(seeds["promote"].size(), 40U);
  EXPECT_GT(checked["stop"], 10'000);
  EXPECT_GT(checked["promote"], 20'000);
}

}  // namespace
}  // namespace sae::server::search
