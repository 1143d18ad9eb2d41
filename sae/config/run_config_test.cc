#include "sae/config/run_config.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae::config {
namespace {
using ::testing::HasSubstr;

TrialConfig Good() {
  TrialConfig c;
  c.sae.latents = 2048;
  c.sae.k = 32;
  c.train.tokens = 5e5;
  return c;
}

TEST(RunConfig, JsonRoundTripKeepsEveryField) {
  RunConfig c;
  // Give every field a value of its own, so that a field that ToJson or Parse forgets shows.
  int i = 1;
  for (const Field& f : Fields(c)) {
    ++i;
    std::visit([&](auto* p) {
      using T = std::remove_pointer_t<decltype(p)>;
      if constexpr (std::is_same_v<T, bool>) *p = true;
      else if constexpr (std::is_same_v<T, std::string>) *p = "v" + std::to_string(i);
      else *p = i;
    }, f.pointer);
  }
  const auto back = ParseRunConfig(ToJson(c));
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ(ToJson(*back), ToJson(c));
  EXPECT_EQ(back->trial.train.seed, c.trial.train.seed);
  EXPECT_EQ(back->trial.sae.aux_k, c.trial.sae.aux_k);
  EXPECT_EQ(back->run.store_hash, c.run.store_hash);
}

TEST(RunConfig, AutoSurvivesTheRoundTripAndResolves) {
  const auto c = ParseTrialConfig(R"({"sae":{"latents":16384,"k":32,"aux_k":"auto"},"train":{"tokens":5e5,"lr":"auto"}})");
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_FALSE(c->train.lr.has_value());
  const TrialConfig r = Resolve(*c, 576);
  EXPECT_DOUBLE_EQ(*r.train.lr, 2e-4);
  EXPECT_EQ(*r.sae.aux_k, 256);  // the power of two nearest 288
  EXPECT_EQ(*r.sae.dead_after_tokens, 62500);
  EXPECT_EQ(TotalSteps(r), 244);
  EXPECT_EQ(*r.train.lr_warmup_steps, 12);
  EXPECT_DOUBLE_EQ(*r.train.eval_every_tokens, 5e4);
}

TEST(RunConfig, UnknownKeyNamesTheNearest) {
  const auto c = ParseTrialConfig(R"({"sae":{"latent":8}})");
  EXPECT_EQ(c.status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(Message(c.status()), "unknown key sae.latent, did you mean sae.latents?");
}

TEST(RunConfig, WrongTypeNamesPathValueAndWant) {
  EXPECT_EQ(Message(ParseTrialConfig(R"({"sae":{"k":"many"},"train":{"lr":true}})").status()),
            "sae.k: \"many\" is not a whole number; train.lr: true is not a number or auto");
  EXPECT_EQ(Message(ParseTrialConfig(R"({"sae":{"k":1.5}})").status()), "sae.k: 1.5 is not a whole number");
}

TEST(RunConfig, IntegersMayBeScientificOrStrings) {
  const auto c = ParseTrialConfig(R"({"sae":{"latents":2e3,"k":"16"}})");
  ASSERT_TRUE(c.ok()) << c.status();
  EXPECT_EQ(c->sae.latents, 2000);
  EXPECT_EQ(c->sae.k, 16);
}

TEST(RunConfig, SetFieldByPath) {
  TrialConfig c = Good();
  EXPECT_TRUE(SetField(c, "sae.k", "8").ok());
  EXPECT_EQ(c.sae.k, 8);
  EXPECT_THAT(Message(SetField(c, "sae.kk", "8")), HasSubstr("did you mean sae.k?"));
  EXPECT_THAT(Message(SetField(c, "sae.architecture", "3")), HasSubstr("is not a string"));
}

}  // namespace
}  // namespace sae::config
