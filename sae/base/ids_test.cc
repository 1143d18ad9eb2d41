#include "sae/base/ids.h"

#include <gtest/gtest.h>

namespace sae {
namespace {

TEST(Ulid, SortsByTimeAndHasTheKnownPrefix) {
  Random random(1);
  // 1469918176385 ms is the time part of the ULID specification's example 01ARYZ6S41...
  const std::string a = MakeUlid(absl::FromUnixMillis(1469918176385), random);
  EXPECT_EQ(a.substr(0, 10), "01ARYZ6S41");
  EXPECT_EQ(a.size(), 26U);
  EXPECT_LT(a, MakeUlid(absl::FromUnixMillis(1469918176386), random));
}

TEST(ValidateName, AcceptsResourceNamesOnly) {
  for (const char* good : {"a", "demo", "topk-32", "0a"}) EXPECT_TRUE(ValidateName(good, "name").ok()) << good;
  for (const std::string& bad : {std::string(), std::string(".."), std::string("a/b"), std::string("A"),
                                 std::string("-a"), std::string("a b"), std::string(64, 'a')}) {
    EXPECT_EQ(ValidateName(bad, "name").code(), absl::StatusCode::kInvalidArgument) << bad;
  }
}

TEST(Nearest, FindsTypingErrorsAndNothingFarOff) {
  EXPECT_EQ(Nearest("sae.latent", {"sae.latents", "sae.k"}), "sae.latents");
  EXPECT_EQ(Nearest("sumbit", {"submit", "list"}), "submit");
  EXPECT_EQ(Nearest("zzzzzz", {"submit", "list"}), "");
}

}  // namespace
}  // namespace sae
