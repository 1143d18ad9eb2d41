#include <gtest/gtest.h>

#include "sae/comm/nccl/nccl.h"

namespace sae::comm {
namespace {

TEST(NoNccl, NamesTheBuildOption) {
  const absl::Status status = CreateNccl({}).status();
  EXPECT_TRUE(absl::IsUnimplemented(status));
  EXPECT_NE(Message(status).find("-DSAE_WITH_NCCL=ON"), std::string::npos);
}

}  // namespace
}  // namespace sae::comm
