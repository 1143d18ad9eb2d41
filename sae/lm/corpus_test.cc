#include "sae/lm/corpus.h"

#include <gtest/gtest.h>

#include "sae/lm/testing/gguf_builder.h"

namespace sae::lm {
namespace {

absl::StatusOr<std::vector<std::string>> Read(const std::string& bytes,
                                              const std::string& field = "text") {
  SAE_ASSIGN_OR_RETURN(const auto corpus,
                       Corpus::Open(testing::WriteTemporary("corpus", bytes), field));
  std::vector<std::string> out;
  for (std::int64_t i = 0; i < corpus->size(); ++i) {
    SAE_ASSIGN_OR_RETURN(std::string text, corpus->Text(i));
    out.push_back(std::move(text));
  }
  return out;
}

using V = std::vector<std::string>;

TEST(Corpus, PlainTextIsCutAtBlankLines) {
  EXPECT_EQ(*Read("one\ntwo\n\n \t\n\nthree"), (V{"one\ntwo", "three"}));
  EXPECT_EQ(*Read("\n\n  a\r\n\r\nb\n"), (V{"  a\r", "b"}));
  EXPECT_EQ(*Read("bad \xFF byte"), (V{"bad \xEF\xBF\xBD byte"}));
}

TEST(Corpus, JsonLinesGiveTheirField) {
  EXPECT_EQ(*Read("{\"text\": \"a\\nb\"}\n\n{\"text\": \"\"}\n{\"x\": 1, \"text\": \"\\u00e9\"}"),
            (V{"a\nb", "", "é"}));
  EXPECT_EQ(*Read("{\"body\": \"a\"}", "body"), V{"a"});
}

TEST(Corpus, ATextThatMerelyBeginsWithABraceIsPlain) {
  EXPECT_EQ(*Read("{not json\n\nb"), (V{"{not json", "b"}));
}

TEST(Corpus, EmptyOnesAreRefused) {
  for (const char* bytes : {"", "\n\n \n"}) {
    const auto status = Read(bytes).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_NE(Message(status).find("is empty"), std::string::npos) << status;
  }
  EXPECT_EQ(Corpus::Open("/nonexistent/corpus").status().code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(Corpus::Open("/tmp").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(Corpus, BadLinesAreNamed) {
  auto status = Read("{\"text\": \"a\"}\n\nnot json\n").status();
  EXPECT_NE(Message(status).find("line 3 is not a JSON object"), std::string::npos) << status;
  status = Read("{\"text\": 5}\n").status();
  EXPECT_NE(Message(status).find("line 1 has no text in field \"text\": name it with --text-field"),
            std::string::npos)
      << status;
}

}  // namespace
}  // namespace sae::lm
