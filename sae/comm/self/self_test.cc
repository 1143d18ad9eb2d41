#include <gtest/gtest.h>

#include "sae/comm/communicator.h"
#include "tests/contract/communicator_suite.h"

namespace sae::comm {
namespace {

class SelfContract : public testing::TestWithParam<std::size_t> {};

TEST_P(SelfContract, Holds) {
  const contract::Case& test = contract::Cases()[GetParam()];
  const std::unique_ptr<Communicator> self = CreateSelf();
  ASSERT_EQ(self->size(), 1);
  ASSERT_EQ(self->rank(), 0);
  if (!contract::Applies(test, 1)) return;  // nothing to ask of one rank
  EXPECT_EQ(test.run(*self).ToString(), "OK");
}

INSTANTIATE_TEST_SUITE_P(All, SelfContract,
                         testing::Range(std::size_t{0}, contract::Cases().size()),
                         [](const auto& p) { return contract::Cases()[p.param].name; });

}  // namespace
}  // namespace sae::comm
