#include "sae/base/safetensors.h"

#include <cstdint>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "sae/base/hash.h"

namespace sae {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class SafetensorsTest : public ::testing::Test {
 protected:
  void SetUp() override {
    dir_ = ::testing::TempDir() + "/safetensors_" +
           ::testing::UnitTest::GetInstance()->current_test_info()->name();
    std::filesystem::remove_all(dir_);
    std::filesystem::create_directories(dir_);
    path_ = dir_ + "/t.safetensors";
  }
  void TearDown() override { std::filesystem::remove_all(dir_); }

  std::uint64_t WriteTwo() {
    auto hash = WriteSafetensors(
        RealEnv(), path_,
        {{"a", DType::kF32, {2, 3}, AsBytes(a_, 6)}, {"ids", DType::kI32, {2}, AsBytes(ids_, 2)}},
        {{"format", "pt"}});
    EXPECT_TRUE(hash.ok()) << hash.status();
    return hash.value_or(0);
  }
  /// A file with this header text and `data` zero bytes after it.
  void WriteRaw(const std::string& header, std::size_t data) {
    const std::uint64_t n = header.size();
    std::ofstream out(path_, std::ios::binary);
    out.write(reinterpret_cast<const char*>(&n), 8);
    out << header << std::string(data, '\0');
  }

  const float a_[6] = {1, -2.5F, 3, 0, 1e-30F, 6};
  const std::int32_t ids_[2] = {7, -8};
  std::string dir_, path_;
};

TEST_F(SafetensorsTest, RoundTripKeepsValuesMetadataAndAlignment) {
  const std::uint64_t hash = WriteTwo();
  auto content = RealEnv().Read(path_);
  ASSERT_TRUE(content.ok());
  EXPECT_EQ(Xxh3(*content), hash);
  EXPECT_EQ(content->size(), 4096U + 24 + 8);
  auto reader = SafetensorsReader::Open(path_);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->metadata().at("format"), "pt");
  auto view = (*reader)->Get("a");
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(view->file_offset, 4096);
  EXPECT_THAT(view->shape, ElementsAre(2, 3));
  EXPECT_THAT(*(*reader)->GetFloats("a", {2, 3}), ElementsAre(1, -2.5F, 3, 0, 1e-30F, 6));
  auto ids = (*reader)->Get("ids");
  ASSERT_TRUE(ids.ok());
  std::int32_t got[2];
  std::memcpy(got, ids->data.data(), sizeof got);
  EXPECT_THAT(got, ElementsAre(7, -8));
}

TEST_F(SafetensorsTest, ConvertsEveryFloatingType) {
  const double f64[2] = {0.5, -3};
  const std::uint16_t bf16[2] = {FloatToBf16(0.5F), FloatToBf16(-3)};
  const std::uint16_t f16[2] = {FloatToF16(0.5F), FloatToF16(-3)};
  ASSERT_TRUE(WriteSafetensors(RealEnv(), path_,
                               {{"d", DType::kF64, {2}, AsBytes(f64, 2)},
                                {"b", DType::kBf16, {2}, AsBytes(bf16, 2)},
                                {"h", DType::kF16, {2}, AsBytes(f16, 2)}})
                  .ok());
  auto reader = SafetensorsReader::Open(path_);
  ASSERT_TRUE(reader.ok());
  for (const char* name : {"d", "b", "h"})
    EXPECT_THAT(*(*reader)->GetFloats(name), ElementsAre(0.5F, -3));
}

TEST_F(SafetensorsTest, EmptyTensorsAndNoTensors) {
  ASSERT_TRUE(WriteSafetensors(RealEnv(), path_, {{"none", DType::kF32, {0, 4}, {}}}).ok());
  auto reader = SafetensorsReader::Open(path_);
  ASSERT_TRUE(reader.ok()) << reader.status();
  EXPECT_EQ((*reader)->GetFloats("none")->size(), 0U);
  ASSERT_TRUE(WriteSafetensors(RealEnv(), path_, {}).ok());
  EXPECT_TRUE(SafetensorsReader::Open(path_).ok());
}

TEST_F(SafetensorsTest, EveryTruncationIsDataLoss) {
  WriteTwo();
  const auto size = std::filesystem::file_size(path_);
  for (const std::uintmax_t keep :
       {size - 1, size - 8, std::uintmax_t{4096}, std::uintmax_t{4095}, std::uintmax_t{100},
        std::uintmax_t{8}, std::uintmax_t{7}, std::uintmax_t{0}}) {
    std::filesystem::resize_file(path_, keep);
    const auto status = SafetensorsReader::Open(path_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << keep << " " << status;
    EXPECT_THAT(Message(status), HasSubstr(path_));
    EXPECT_THAT(Message(status), HasSubstr("cut short"));
  }
}

TEST_F(SafetensorsTest, LyingHeadersAreDataLoss) {
  for (
      const std::string header : {
          R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})",
          R"({"a":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})",
          R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,4]}})",
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})",
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})",
          R"({"a":{"dtype":"F32","shape":[1]}})",
          R"({"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
          R"({"b":{"dtype":"U8","shape":[2],"data_offsets":[2,4]}})",
          R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
          R"({"a":7})",
          R"({"__metadata__":{"x":1}})",
          "{not json",
      }) {
    WriteRaw(header, 4);
    const auto status = SafetensorsReader::Open(path_).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << header << " " << status;
    EXPECT_THAT(Message(status), HasSubstr(path_));
  }
}

TEST_F(SafetensorsTest, OtherFilesAreInvalidArgumentAndMissingOnesNotFound) {
  std::ofstream(path_) << "GGUF and some more text";
  EXPECT_EQ(SafetensorsReader::Open(path_).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SafetensorsReader::Open(dir_).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(SafetensorsReader::Open(dir_ + "/no").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(SafetensorsTest, WrongNamesShapesAndTypesAreNamed) {
  WriteTwo();
  auto reader = SafetensorsReader::Open(path_);
  ASSERT_TRUE(reader.ok());
  EXPECT_THAT(Message((*reader)->Get("W").status()), HasSubstr("it has: a, ids"));
  EXPECT_EQ((*reader)->GetFloats("a", {3, 2}).status().code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ((*reader)->GetFloats("ids").status().code(), absl::StatusCode::kInvalidArgument);
  WriteRaw(R"({"q":{"dtype":"F8_E4M3","shape":[4],"data_offsets":[0,4]}})", 4);
  auto odd = SafetensorsReader::Open(path_);
  ASSERT_TRUE(odd.ok()) << odd.status();
  EXPECT_EQ((*odd)->Get("q").status().code(), absl::StatusCode::kUnimplemented);
}

TEST_F(SafetensorsTest, RefusesToWriteWhatDoesNotFit) {
  EXPECT_FALSE(WriteSafetensors(RealEnv(), path_, {{"a", DType::kF32, {7}, AsBytes(a_, 6)}}).ok());
  EXPECT_FALSE(WriteSafetensors(RealEnv(), path_,
                                {{"a", DType::kF32, {6}, AsBytes(a_, 6)},
                                 {"a", DType::kF32, {6}, AsBytes(a_, 6)}})
                   .ok());
  EXPECT_FALSE(SafetensorsHeader({}, {}, 100).ok());
  EXPECT_FALSE(RealEnv().Exists(path_));
}

}  // namespace
}  // namespace sae
