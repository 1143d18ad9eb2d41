#include "sae/lm/document_choice.h"

#include <algorithm>

#include <gtest/gtest.h>

#include "sae/lm/testing/gguf_builder.h"

namespace sae::lm {
namespace {

class DocumentChoiceTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string text;
    for (int i = 0; i < 100; ++i)
      text += std::string(1 + static_cast<std::size_t>(i) % 10, 'a') + "\n\n";  // bytes are tokens
    corpus_ = *Corpus::Open(testing::WriteTemporary("choice.txt", text));
    gguf_ = *GgufReader::Open(testing::WriteTemporary("choice.gguf", testing::TinyLlama().Build()));
    tokenizer_ = *Tokenizer::FromGguf(*gguf_);
  }
  DocumentChoice Choose(std::int64_t tokens, std::uint64_t seed, bool sorted) {
    auto choice = ChooseDocuments(*corpus_, *tokenizer_, tokens, seed, sorted, nullptr);
    EXPECT_TRUE(choice.ok()) << choice.status();
    return *std::move(choice);
  }
  std::unique_ptr<Corpus> corpus_;
  std::unique_ptr<GgufReader> gguf_;
  std::unique_ptr<Tokenizer> tokenizer_;
};

TEST_F(DocumentChoiceTest, TheWholeCorpusStaysInItsOrder) {
  const DocumentChoice all = Choose(0, 3, false);
  EXPECT_EQ(all.tokens, 550);
  EXPECT_EQ(all.documents.size(), 100U);
  EXPECT_TRUE(std::is_sorted(all.documents.begin(), all.documents.end()));
  EXPECT_EQ(all.cut_document, -1);
}

TEST_F(DocumentChoiceTest, ASampleHasExactlyTheTokensAskedForAndFollowsTheSeed) {
  const DocumentChoice a = Choose(101, 3, false);
  EXPECT_EQ(a.tokens, 101);
  EXPECT_FALSE(std::is_sorted(a.documents.begin(), a.documents.end()));
  EXPECT_EQ(a.documents, Choose(101, 3, false).documents);
  EXPECT_NE(a.documents, Choose(101, 4, false).documents);
  auto sorted = a.documents;
  std::sort(sorted.begin(), sorted.end());
  EXPECT_EQ(sorted, Choose(101, 3, true).documents);
  // A larger sample begins with the smaller one.
  const DocumentChoice b = Choose(300, 3, false);
  EXPECT_TRUE(std::equal(a.documents.begin(), a.documents.end(), b.documents.begin()));
  EXPECT_EQ(Choose(10000, 3, false).tokens, 550);
}

TEST_F(DocumentChoiceTest, StopsWhenTold) {
  EXPECT_EQ(ChooseDocuments(*corpus_, *tokenizer_, 0, 0, false, [](auto, auto) { return false; })
                .status()
                .code(),
            absl::StatusCode::kCancelled);
}

}  // namespace
}  // namespace sae::lm
