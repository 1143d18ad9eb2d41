#include "sae/lm/hook.h"

#include <gtest/gtest.h>

namespace sae::lm {
namespace {

TEST(Hook, NamesRoundTripAndOrderIsThatOfTheForwardPass) {
  Hook last{};
  for (const char* name : {"hook_embed", "blocks.0.hook_resid_pre", "blocks.0.hook_attn_out",
                           "blocks.0.ln2.hook_normalized", "blocks.0.hook_mlp_out",
                           "blocks.0.hook_resid_post", "blocks.11.hook_resid_pre"}) {
    auto hook = ParseHook(name, 12);
    ASSERT_TRUE(hook.ok()) << hook.status();
    EXPECT_EQ(HookName(*hook), name);
    EXPECT_GE(*hook, last);
    last = *hook;
  }
}

TEST(Hook, AnUnknownOneNamesTheValidOnesAndTheNearest) {
  for (const char* name : {"blocks.30.hook_resid_post", "blocks.8.resid_post",
                           "blocks.08.hook_resid_post", "hook_z", ""}) {
    const auto status = ParseHook(name, 30).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << name;
    EXPECT_NE(Message(status).find("N = 0..29"), std::string::npos) << status;
  }
  EXPECT_NE(Message(ParseHook("blocks.8.resid_post", 30).status())
                .find("did you mean blocks.8.hook_resid_post?"),
            std::string::npos);
}

}  // namespace
}  // namespace sae::lm
