#include "sae/data/text_file.h"

#include <gmock/gmock.h>

#include "sae/base/hash.h"
#include "sae/data/store_test_util.h"

namespace sae::data {
namespace {
using ::testing::HasSubstr;

class TextFileTest : public ScratchTest {
 protected:
  std::string path() const { return scratch_ + "/texts.jsonl.zst"; }
  StoreShard Write(const std::vector<StoreText>& texts) {
    auto writer = TextWriter::Create(RealEnv(), path());
    EXPECT_TRUE(writer.ok());
    for (const StoreText& t : texts) EXPECT_TRUE((*writer)->Add(t).ok());
    auto entry = (*writer)->Finish();
    EXPECT_TRUE(entry.ok());
    return *entry;
  }
  absl::StatusOr<std::vector<StoreText>> Read() {
    std::vector<StoreText> texts;
    SAE_RETURN_IF_ERROR(ReadTexts(path(), [&](StoreText t) {
      texts.push_back(std::move(t));
      return true;
    }));
    return texts;
  }
};

std::vector<StoreText> ManyTexts() {
  std::vector<StoreText> texts;
  for (std::int32_t i = 0; i < 3000; ++i) {
    StoreText t;
    t.document = i;
    for (std::int32_t w = 0; w < i % 50; ++w) {
      t.text += "\xC3\xBC\n\"" + std::to_string(i * w);
      t.token_ids.push_back(w);
      t.token_ends.push_back(static_cast<std::int32_t>(t.text.size()));
    }
    texts.push_back(std::move(t));
  }
  return texts;
}

TEST_F(TextFileTest, RoundTripsManyTexts) {
  const auto texts = ManyTexts();
  const StoreShard entry = Write(texts);
  EXPECT_EQ(entry.rows, 3000);
  const auto content = RealEnv().Read(path());
  ASSERT_TRUE(content.ok());
  EXPECT_EQ(entry.bytes, static_cast<std::int64_t>(content->size()));
  EXPECT_EQ(entry.hash, HashToText(Xxh3(*content)));
  auto back = Read();
  ASSERT_TRUE(back.ok()) << back.status();
  ASSERT_EQ(back->size(), texts.size());
  for (std::size_t i = 0; i < texts.size(); ++i) {
    EXPECT_EQ((*back)[i].document, texts[i].document);
    EXPECT_EQ((*back)[i].text, texts[i].text);
    EXPECT_EQ((*back)[i].token_ids, texts[i].token_ids);
    EXPECT_EQ((*back)[i].token_ends, texts[i].token_ends);
  }
}

TEST_F(TextFileTest, AVisitorMayStopEarly) {
  Write(ManyTexts());
  int seen = 0;
  ASSERT_TRUE(ReadTexts(path(), [&](const StoreText&) { return ++seen < 4; }).ok());
  EXPECT_EQ(seen, 4);
}

TEST_F(TextFileTest, BytesThatAreNotUtf8BecomeReplacementCharacters) {
  Write({{0, "a\xFFz", {}, {}}});
  auto back = Read();
  ASSERT_TRUE(back.ok()) << back.status();
  EXPECT_EQ((*back)[0].text, "a\xEF\xBF\xBDz");
}

TEST_F(TextFileTest, TruncationAndDamageAreDataLoss) {
  Write(ManyTexts());
  const auto content = *RealEnv().Read(path());
  for (const std::size_t keep : {content.size() - 1, content.size() / 2, std::size_t{5}}) {
    ASSERT_TRUE(WriteFileAtomically(RealEnv(), path(), content.substr(0, keep)).ok());
    const auto status = Read().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kDataLoss) << keep << " " << status;
    EXPECT_THAT(Message(status), HasSubstr(path()));
  }
  ASSERT_TRUE(WriteFileAtomically(RealEnv(), path(), "{\"document\":0}\n").ok());
  EXPECT_EQ(Read().status().code(), absl::StatusCode::kDataLoss) << "not compressed at all";
}

TEST_F(TextFileTest, TokenEndsMustMatchTokens) {
  auto writer = TextWriter::Create(RealEnv(), path());
  ASSERT_TRUE(writer.ok());
  EXPECT_THAT(Message((*writer)->Add({3, "ab", {1, 2}, {1}})),
              HasSubstr("document 3 has 2 tokens and 1 token ends"));
}

}  // namespace
}  // namespace sae::data
