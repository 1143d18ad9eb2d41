#include "sae/data/store_create.h"

#include <algorithm>
#include <fstream>

#include <gmock/gmock.h>

#include "sae/base/npy.h"
#include "sae/data/store_test_util.h"

namespace sae::data {
namespace {
using ::testing::HasSubstr;

class StoreCreateTest : public ScratchTest {
 protected:
  ImportOptions Import(const std::string& from) const {
    ImportOptions o;
    o.from = from;
    o.writer.directory = directory_;
    o.writer.dtype = DType::kF32;
    o.writer.heldout_fraction = 0;
    return o;
  }
  std::string WriteNpy(const std::string& header_dict, std::span<const std::byte> data,
                       int version = 1) {
    const std::string path = scratch_ + "/x.npy";
    std::ofstream out(path, std::ios::binary);
    const auto length = static_cast<std::uint32_t>(header_dict.size());
    out << "\x93NUMPY" << static_cast<char>(version) << '\0';
    out.write(reinterpret_cast<const char*>(&length), version == 1 ? 2 : 4);
    out << header_dict;
    out.write(reinterpret_cast<const char*>(data.data()),
              static_cast<std::streamsize>(data.size()));
    return path;
  }
  absl::Status Fails(const std::string& from) {
    const auto status = ImportStore(Import(from)).status();
    EXPECT_FALSE(std::filesystem::exists(directory_));
    EXPECT_FALSE(std::filesystem::exists(directory_ + ".partial"));
    return status;
  }
};

TEST_F(StoreCreateTest, ImportsNpyOfEveryFloatingType) {
  const auto values = NumberedRows(0, 20, 3);
  std::vector<double> wide(values.begin(), values.end());
  std::vector<std::uint16_t> half;
  for (const float v : values) half.push_back(FloatToF16(v));
  struct Case {
    std::string descr;
    std::span<const std::byte> data;
    int version;
  };
  for (const Case& c :
       {Case{"<f4", AsBytes(values.data(), 60), 1}, Case{"<f8", AsBytes(wide.data(), 60), 2},
        Case{"<f2", AsBytes(half.data(), 60), 3}}) {
    const auto path =
        WriteNpy("{'descr': '" + c.descr + "', 'fortran_order': False, 'shape': (20, 3), }   \n",
                 c.data, c.version);
    auto manifest = ImportStore(Import(path));
    ASSERT_TRUE(manifest.ok()) << manifest.status();
    auto store = ActivationStore::Open(directory_);
    ASSERT_TRUE(store.ok());
    auto numbers = RowNumbers(**store, Split::kTraining);
    std::sort(numbers.begin(), numbers.end());
    for (std::size_t i = 0; i < 20; ++i) EXPECT_EQ(numbers[i], static_cast<std::int64_t>(i));
    std::filesystem::remove_all(directory_);
  }
}

TEST_F(StoreCreateTest, ThreeDimensionsAreContextsOfTokens) {
  const auto values = NumberedRows(0, 12, 5);
  const auto path = WriteNpy("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 4, 5)}",
                             AsBytes(values.data(), 60));
  auto manifest = ImportStore(Import(path));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->rows, 12);
  EXPECT_EQ(manifest->d, 5);
}

TEST_F(StoreCreateTest, BadNpyFilesAreNamed) {
  const auto values = NumberedRows(0, 4, 3);
  const auto data = AsBytes(values.data(), 12);
  EXPECT_EQ(
      Fails(WriteNpy("{'descr': '<f4', 'fortran_order': False, 'shape': (5, 3)}", data)).code(),
      absl::StatusCode::kDataLoss);
  EXPECT_THAT(
      Message(Fails(WriteNpy("{'descr': '<f4', 'fortran_order': True, 'shape': (4, 3)}", data))),
      HasSubstr("Fortran"));
  EXPECT_THAT(
      Message(Fails(WriteNpy("{'descr': '>f4', 'fortran_order': False, 'shape': (4, 3)}", data))),
      HasSubstr("little-endian"));
  EXPECT_THAT(
      Message(Fails(WriteNpy("{'descr': '<f4', 'fortran_order': False, 'shape': (12,)}", data))),
      HasSubstr("1 dimensions"));
  EXPECT_THAT(
      Message(Fails(WriteNpy("{'descr': '<i4', 'fortran_order': False, 'shape': (4, 3)}", data))),
      HasSubstr("integers"));
  EXPECT_THAT(
      Message(Fails(WriteNpy("{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3)}", data))),
      HasSubstr("no values"));
  std::ofstream(scratch_ + "/text.npy") << "hello, this is text";
  EXPECT_THAT(Message(Fails(scratch_ + "/text.npy")), HasSubstr("is not a .npy file"));
  EXPECT_EQ(Fails(scratch_ + "/none.npy").code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(Message(Fails("x.pt")), HasSubstr(".npy or .safetensors"));
}

TEST_F(StoreCreateTest, NanNamesFileAndRow) {
  auto values = NumberedRows(0, 4, 3);
  values[7] = std::numeric_limits<float>::quiet_NaN();
  const auto path = WriteNpy("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 3)}",
                             AsBytes(values.data(), 12));
  EXPECT_THAT(Message(Fails(path)), HasSubstr("x.npy: row 2, column 1"));
}

TEST_F(StoreCreateTest, SafetensorsKeepTheirColumns) {
  const auto values = NumberedRows(0, 6, 2);
  const std::vector<std::int64_t> tokens = {10, 11, 12, 13, 14, 15}, positions = {1, 2, 3, 1, 2, 3};
  const std::vector<std::int32_t> documents = {0, 0, 0, 1, 1, 1};
  const std::string path = scratch_ + "/x.safetensors";
  ASSERT_TRUE(WriteSafetensors(RealEnv(), path,
                               {{"acts", DType::kF32, {6, 2}, AsBytes(values.data(), 12)},
                                {"token_ids", DType::kI64, {6}, AsBytes(tokens.data(), 6)},
                                {"positions", DType::kI64, {6}, AsBytes(positions.data(), 6)},
                                {"documents", DType::kI32, {6}, AsBytes(documents.data(), 6)}})
                  .ok());
  auto manifest = ImportStore(Import(path));
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_TRUE(manifest->has_tokens);
  auto store = ActivationStore::Open(directory_);
  ASSERT_TRUE(store.ok());
  const auto numbers = RowNumbers(**store, Split::kTraining);
  std::vector<std::int32_t> got(6);
  ASSERT_TRUE((*store)->ReadColumn(Split::kTraining, "token_ids", 0, got).ok());
  for (std::size_t i = 0; i < 6; ++i) EXPECT_EQ(got[i], 10 + numbers[i]);
}

TEST_F(StoreCreateTest, AmbiguousAndMissingTensorsAreNamed) {
  const auto values = NumberedRows(0, 6, 2);
  const std::string path = scratch_ + "/x.safetensors";
  ASSERT_TRUE(WriteSafetensors(RealEnv(), path,
                               {{"a", DType::kF32, {6, 2}, AsBytes(values.data(), 12)},
                                {"b", DType::kF32, {3, 4}, AsBytes(values.data(), 12)}})
                  .ok());
  EXPECT_THAT(Message(Fails(path)),
              HasSubstr("2 matrices of floating values (a, b): name one with --tensor"));
  ImportOptions o = Import(path);
  o.tensor = "c";
  EXPECT_EQ(ImportStore(o).status().code(), absl::StatusCode::kNotFound);
  o.tensor = "b";
  EXPECT_EQ(ImportStore(o)->d, 4);
}

TEST_F(StoreCreateTest, SyntheticStoreHoldsItsRowsAndItsDictionary) {
  const auto spec = ParseSyntheticSpec("d=6,features=10,rows=300,seed=4");
  ASSERT_TRUE(spec.ok());
  StoreWriterOptions o;
  o.directory = directory_;
  o.dtype = DType::kF32;
  o.heldout_fraction = 0.1;
  o.shuffled = false;
  auto manifest = CreateSyntheticStore(*spec, o);
  ASSERT_TRUE(manifest.ok()) << manifest.status();
  EXPECT_EQ(manifest->rows + manifest->heldout_rows, 300);
  auto store = ActivationStore::Open(directory_, StoreVerify::kAtOpen);
  ASSERT_TRUE(store.ok()) << store.status();
  auto source = SyntheticSource::Create(spec->options);
  ASSERT_TRUE(source.ok());
  auto dictionary = SafetensorsReader::Open(directory_ + "/dictionary.safetensors");
  ASSERT_TRUE(dictionary.ok());
  EXPECT_EQ(*(*dictionary)->GetFloats("features", {10, 6}), (*source)->dictionary());
  std::vector<float> rows(300 * 6), stored(static_cast<std::size_t>(manifest->rows) * 6);
  ASSERT_TRUE((*source)->Next(rows).ok());
  ASSERT_TRUE((*store)->ReadRows(Split::kTraining, 0, stored).ok());
  std::size_t found = 0;  // sequential: stored rows are a subsequence of the generator's
  for (std::size_t r = 0; r < 300 && found < stored.size(); ++r) {
    if (std::equal(stored.begin() + static_cast<std::ptrdiff_t>(found),
                   stored.begin() + static_cast<std::ptrdiff_t>(found) + 6,
                   rows.begin() + static_cast<std::ptrdiff_t>(r * 6))) {
      found += 6;
    }
  }
  EXPECT_EQ(found, stored.size());
  std::ofstream(directory_ + "/dictionary.safetensors", std::ios::app) << "x";
  EXPECT_EQ(ActivationStore::Open(directory_, StoreVerify::kAtOpen).status().code(),
            absl::StatusCode::kDataLoss);
}

}  // namespace
}  // namespace sae::data
