// One world for all tests of the program; at its end every verb of the program must have been
// carried out. With a filter that leaves tests out, that is not asked.

#include <iostream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/e2e/cli_world.h"

namespace saeloom::e2e {
namespace {

class World : public ::testing::Environment {
 public:
  void SetUp() override {
    world_ = std::make_unique<CliWorld>();
    CliWorld::current = world_.get();
  }
  void TearDown() override {
    const auto& test = *::testing::UnitTest::GetInstance();
    if (test.test_to_run_count() == test.total_test_count()) {
      EXPECT_GT(world_->verbs().verbs().size(), 60U) << "the completion script is read wrongly";
      EXPECT_THAT(world_->verbs().VerbsNotDone(), ::testing::IsEmpty());
      EXPECT_THAT(world_->verbs().FlagsNotDone(), ::testing::IsEmpty());
    } else {
      std::cout << "some tests were left out: whether every verb was carried out is not asked\n";
    }
    world_->Close();
    world_ = nullptr;
  }

 private:
  std::unique_ptr<CliWorld> world_;
};

}  // namespace
}  // namespace saeloom::e2e

int main(int argc, char** argv) {
  ::testing::InitGoogleMock(&argc, argv);
  ::testing::AddGlobalTestEnvironment(new saeloom::e2e::World);
  return RUN_ALL_TESTS();
}
