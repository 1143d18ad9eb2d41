#include "worker/agent/slots.h"

#include <filesystem>
#include <fstream>
#include <sys/stat.h>
#include <unistd.h>

#include <gtest/gtest.h>

namespace saeloom::agent {
namespace {

TEST(ChooseSlots, GpusElseCores) {
  EXPECT_EQ(ChooseSlots(0, 16, 4).slots, 4);
  EXPECT_EQ(ChooseSlots(0, 16, 4).threads, 4);
  EXPECT_EQ(ChooseSlots(0, 2, 0).slots, 2);
  EXPECT_EQ(ChooseSlots(0, 64, 0).slots, 8) << "at most 8 CPU slots by default";
  EXPECT_EQ(ChooseSlots(0, 64, 0).threads, 8);
  EXPECT_FALSE(ChooseSlots(0, 1, 0).oversubscribed);
}

TEST(ChooseSlots, MoreThanCoresIsTakenAndSaid) {
  const Slots s = ChooseSlots(4, 2, 0);
  EXPECT_EQ(s.slots, 4);
  EXPECT_EQ(s.threads, 1);
  EXPECT_TRUE(s.oversubscribed);
  EXPECT_FALSE(ChooseSlots(2, 2, 0).oversubscribed);
  EXPECT_FALSE(ChooseSlots(4, 2, 4).oversubscribed);
}

TEST(DetectGpus, CountsLinesOfNvidiaSmi) {
  const auto folder =
      std::filesystem::temp_directory_path() / ("slots_test." + std::to_string(::getpid()));
  std::filesystem::create_directories(folder);
  EXPECT_EQ(DetectGpus(folder.string()), 0);
  const auto fake = folder / "nvidia-smi";
  std::ofstream(fake) << "#!/bin/sh\necho 'GPU 0: NVIDIA H100 (UUID: GPU-1)'\necho 'GPU 1: NVIDIA "
                         "H100 (UUID: GPU-2)'\n";
  ::chmod(fake.c_str(), 0755);
  EXPECT_EQ(DetectGpus(folder.string()), 2);
  std::ofstream(fake) << "#!/bin/sh\necho 'No devices were found'\nexit 6\n";
  EXPECT_EQ(DetectGpus(folder.string()), 0);
  std::filesystem::remove_all(folder);
  EXPECT_GE(DetectCores(), 1);
}

}  // namespace
}  // namespace saeloom::agent
