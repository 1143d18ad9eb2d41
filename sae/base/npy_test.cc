#include "sae/base/npy.h"

#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace sae {
namespace {

std::string Write(const std::string& header, const std::string& data) {
  const std::string path = ::testing::TempDir() + "/npy_test_" +
                           ::testing::UnitTest::GetInstance()->current_test_info()->name() + ".npy";
  std::ofstream out(path, std::ios::binary);
  out << "\x93NUMPY\x01" << '\0' << static_cast<char>(header.size()) << '\0' << header << data;
  return path;
}

TEST(NpyTest, ReadsShapeTypeAndValues) {
  const std::int32_t values[3] = {7, -8, 9};
  const auto path = Write("{'descr': '<i4', 'fortran_order': False, 'shape': (3,), }",
                          std::string(reinterpret_cast<const char*>(values), 12));
  auto reader = NpyReader::Open(path);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->view().dtype, DType::kI32);
  EXPECT_THAT((*reader)->view().shape, ::testing::ElementsAre(3));
  std::int32_t got[3];
  std::memcpy(got, (*reader)->view().data.data(), 12);
  EXPECT_THAT(got, ::testing::ElementsAre(7, -8, 9));
  std::filesystem::remove(path);
}

TEST(NpyTest, ScalarsAndEmptyArrays) {
  auto path = Write("{'descr': '<f4', 'fortran_order': False, 'shape': ()}", std::string(4, '\0'));
  EXPECT_EQ((*NpyReader::Open(path))->view().elements(), 1);
  path = Write("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 5)}", "");
  EXPECT_EQ((*NpyReader::Open(path))->view().elements(), 0);
  std::filesystem::remove(path);
}

TEST(NpyTest, HeadersThatLieAreRefused) {
  for (const char* header :
       {"{'descr': '<f4', 'fortran_order': False, 'shape': (3, -1)}", "{'descr': '<f4'}", "",
        "{'descr': '<c8', 'fortran_order': False, 'shape': (1,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (x,)}",
        "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (4611686018427387904, 4)}"}) {
    const auto path = Write(header, std::string(16, '\0'));
    EXPECT_EQ(NpyReader::Open(path).status().code(), absl::StatusCode::kInvalidArgument) << header;
    std::filesystem::remove(path);
  }
}

}  // namespace
}  // namespace sae
