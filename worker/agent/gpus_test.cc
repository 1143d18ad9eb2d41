#include "worker/agent/gpus.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace saeloom::agent {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

TEST(VisibleGpus, AllOrThoseOfTheVariableInItsOrder) {
  EXPECT_THAT(VisibleGpus(3, std::nullopt), ElementsAre("0", "1", "2"));
  EXPECT_THAT(VisibleGpus(4, "3,1"), ElementsAre("3", "1"));
  EXPECT_THAT(VisibleGpus(4, " 2 , GPU-8932f937"), ElementsAre("2", "GPU-8932f937"));
  EXPECT_THAT(VisibleGpus(4, "1,1,0"), ElementsAre("1", "0"));
  EXPECT_THAT(VisibleGpus(4, ""), IsEmpty());
  EXPECT_THAT(VisibleGpus(4, "2,-1,3"), ElementsAre("2"));
  EXPECT_THAT(VisibleGpus(2, "1,2,0"), ElementsAre("1")) << "CUDA sees none from the third on";
  EXPECT_THAT(VisibleGpus(0, "0,1"), IsEmpty());
}

TEST(GpusForGangs, AutoTakesThemWhereEverySlotHasOne) {
  const std::vector<std::string> two = {"0", "1"};
  EXPECT_EQ(*GpusForGangs("auto", 0, two, true), two);
  EXPECT_EQ(*GpusForGangs("auto", 1, two, true), two);
  EXPECT_EQ(*GpusForGangs("auto", 2, two, true), two);
  EXPECT_THAT(*GpusForGangs("auto", 3, two, true), IsEmpty());
  EXPECT_THAT(*GpusForGangs("auto", 0, two, false), IsEmpty());
  EXPECT_THAT(*GpusForGangs("auto", 0, {}, true), IsEmpty());
  EXPECT_THAT(*GpusForGangs("cpu", 0, two, true), IsEmpty());
}

TEST(GpusForGangs, CudaIsTakenOrRefusedWithTheRemedy) {
  const std::vector<std::string> two = {"0", "1"};
  EXPECT_EQ(*GpusForGangs("cuda", 0, two, false), two) << "the trainer may be of another build";
  const auto without = GpusForGangs("cuda", 0, {}, true).status();
  EXPECT_EQ(without.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(sae::Message(without), HasSubstr("--device cpu"));
  const auto many = GpusForGangs("cuda", 3, two, true).status();
  EXPECT_EQ(many.code(), absl::StatusCode::kInvalidArgument);
  EXPECT_THAT(sae::Message(many), HasSubstr("3 slots on 2 GPUs: use --slots 2"));
  EXPECT_EQ(GpusForGangs("tpu", 0, two, true).status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(PickGpus, TheFirstFreeOnesOrNone) {
  const std::vector<std::string> gpus = {"4", "5", "6", "7"};
  EXPECT_THAT(*PickGpus(gpus, {}, 2), ElementsAre("4", "5"));
  EXPECT_THAT(*PickGpus(gpus, {"4", "6"}, 2), ElementsAre("5", "7"));
  EXPECT_THAT(*PickGpus(gpus, {"5", "9"}, 3), ElementsAre("4", "6", "7"));
  const auto few = PickGpus(gpus, {"4", "6"}, 3).status();
  EXPECT_EQ(few.code(), absl::StatusCode::kResourceExhausted);
  EXPECT_THAT(sae::Message(few), HasSubstr("needs 3 GPUs, 2 of 4 are free"));
}

}  // namespace
}  // namespace saeloom::agent
