#include "sae/lm/harvest.h"

#include <cmath>
#include <filesystem>
#include <limits>
#include <set>

#include <gtest/gtest.h>

#include "sae/data/store_reader.h"
#include "sae/lm/testing/gguf_builder.h"
#include "tests/support/fault_env.h"
#include "tests/support/temp_dir.h"

namespace sae::lm {
namespace {

constexpr std::int64_t kWidth = 4;

/// A model whose rows say where they come from: (token, position in the span, first token of the
/// span, 1), a hundred times that for the token of `loud`; at a second hook ten more in each place.
class FakeModel final : public LanguageModel {
 public:
  FakeModel() {
    config_.name = "fake";
    config_.blocks = 3;
    config_.d = kWidth;
    config_.vocabulary = 258;
    config_.context = 64;
  }
  const LlamaConfig& config() const override { return config_; }
  absl::Status Run(const TokenBatch& batch, const std::vector<Hook>& hooks,
                   const std::vector<std::span<float>>& out) override {
    SAE_RETURN_IF_ERROR(ValidateBatch(batch, config_));
    asked = hooks;
    ++runs;
    if (out.size() > 1) FillTargets(batch, out[1]);
    float* row = out[0].data();
    for (std::int64_t span = 0; span < batch.spans(); ++span) {
      const std::int64_t begin = batch.span_begins[static_cast<std::size_t>(span)];
      for (std::int64_t t = begin; t < batch.span_end(span); ++t, row += kWidth) {
        const float scale = batch.tokens[static_cast<std::size_t>(t)] == loud ? 100 : 1;
        row[0] = scale * static_cast<float>(batch.tokens[static_cast<std::size_t>(t)]);
        row[1] = scale * static_cast<float>(t - begin);
        row[2] = scale * static_cast<float>(batch.tokens[static_cast<std::size_t>(begin)]);
        row[3] = poison ? std::numeric_limits<float>::quiet_NaN() : scale;
      }
    }
    return absl::OkStatus();
  }
  absl::StatusOr<std::vector<float>> Logits(const TokenBatch&,
                                            const std::vector<std::int64_t>&) override {
    return absl::UnimplementedError("not needed");
  }
  absl::StatusOr<double> MeanCrossEntropy(const TokenBatch&) override {
    return absl::UnimplementedError("not needed");
  }

  /// Row r of the second hook: (token + 10, 0, 0, 0).
  void FillTargets(const TokenBatch& batch, std::span<float> out) const {
    std::fill(out.begin(), out.end(), 0.0F);
    for (std::size_t t = 0; t < batch.tokens.size(); ++t) {
      out[t * kWidth] = static_cast<float>(batch.tokens[t]) + 10;
      if (poison_targets) out[t * kWidth + 3] = std::numeric_limits<float>::quiet_NaN();
    }
  }

  std::vector<Hook> asked;
  bool poison_targets = false;
  int runs = 0;
  std::int32_t loud = -1;
  bool poison = false;

 private:
  LlamaConfig config_;
};

struct Row {
  std::vector<float> values;
  std::int32_t token, position, document;
};

class HarvestTest : public ::testing::Test {
 protected:
  void SetUp() override {
    gguf_ =
        *GgufReader::Open(testing::WriteTemporary("harvest.gguf", testing::TinyLlama().Build()));
    tokenizer_ = *Tokenizer::FromGguf(*gguf_);
    options_.out = temporary_ / "store";
    options_.hook = "blocks.1.hook_resid_post";
    options_.context = 8;
    options_.dtype = DType::kF32;
    options_.shuffled = false;
    options_.heldout = 0;
    options_.batch_tokens = 20;
    // 30 documents of 1 to 12 bytes; a byte b is token b + 2.
    for (int i = 0; i < 30; ++i) {
      for (int k = 0; k <= i % 12; ++k) text_ += static_cast<char>('a' + (i + k) % 26);
      text_ += "\n\n";
    }
  }
  absl::StatusOr<HarvestReport> Run(Env& env = RealEnv()) {
    std::filesystem::remove_all(options_.out);
    SAE_ASSIGN_OR_RETURN(corpus_, Corpus::Open(testing::WriteTemporary("harvest.txt", text_)));
    return Harvest(model_, *tokenizer_, *corpus_, options_, RealClock(), env);
  }
  std::vector<Row> Rows(data::Split split = data::Split::kTraining) {
    std::vector<Row> out;
    auto store = data::ActivationStore::Open(options_.out, data::StoreVerify::kAtOpen);
    EXPECT_TRUE(store.ok()) << store.status();
    const std::int64_t n = (*store)->rows(split);
    std::vector<float> values(static_cast<std::size_t>(n * kWidth));
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(n)), positions = tokens,
                                                                   documents = tokens;
    EXPECT_TRUE((*store)->ReadRows(split, 0, values).ok());
    EXPECT_TRUE((*store)->ReadColumn(split, "token_ids", 0, tokens).ok());
    EXPECT_TRUE((*store)->ReadColumn(split, "positions", 0, positions).ok());
    EXPECT_TRUE((*store)->ReadColumn(split, "documents", 0, documents).ok());
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      out.push_back({{values.begin() + static_cast<std::ptrdiff_t>(4 * i),
                      values.begin() + static_cast<std::ptrdiff_t>(4 * i + 4)},
                     tokens[i],
                     positions[i],
                     documents[i]});
    }
    return out;
  }
  void ExpectNothingIsLeft() {
    EXPECT_FALSE(std::filesystem::exists(options_.out));
    EXPECT_FALSE(std::filesystem::exists(options_.out + ".partial"));
  }

  sae::testing::TempDir temporary_;
  FakeModel model_;
  std::unique_ptr<GgufReader> gguf_;
  std::unique_ptr<Tokenizer> tokenizer_;
  std::unique_ptr<Corpus> corpus_;
  HarvestOptions options_;
  std::string text_;
};

TEST_F(HarvestTest, MaskedRowsCarryTheirTokenPositionAndDocument) {
  auto report = Run();
  ASSERT_TRUE(report.ok()) << report.status();
  std::int64_t want = 0;
  std::int64_t firsts = 0;
  for (int i = 0; i < 30; ++i) {
    const int length = i % 12 + 1;
    firsts += length > 8 ? 2 : 1;  // cut at the context of 8
    want += length;
  }
  const auto rows = Rows();
  EXPECT_EQ(static_cast<std::int64_t>(rows.size()), want - firsts);
  EXPECT_EQ(report->tokens, want);
  EXPECT_EQ(report->documents, 30);
  EXPECT_EQ(report->manifest.source.dropped,
            (std::map<std::string, std::int64_t>{{"position_0", firsts}, {"special_tokens", 0}}));
  for (const Row& row : rows) {
    EXPECT_EQ(row.token, 2 + 'a' + (row.document + row.position) % 26);
    EXPECT_NE(row.position % 8, 0);
    EXPECT_EQ(row.values[0], static_cast<float>(row.token));
    EXPECT_EQ(row.values[1], static_cast<float>(row.position % 8));
    EXPECT_EQ(row.values[2],
              static_cast<float>(2 + 'a' + (row.document + row.position / 8 * 8) % 26));
  }
  EXPECT_GT(model_.runs, 3);
  EXPECT_EQ(report->manifest.source.packing, "mask");
  EXPECT_EQ(report->manifest.source.notes.at("documents"), "30 of 30");
}

TEST_F(HarvestTest, ATargetHookPutsTheTargetBesideEachRow) {
  options_.hook = "blocks.1.ln2.hook_normalized";
  options_.target_hook = "blocks.1.hook_mlp_out";
  options_.shuffled = true;
  options_.heldout = 0.3;
  model_.loud = 2 + 'c';
  options_.drop_norm_above = *ParseNormLimit("10x");  // rows are compacted behind those dropped
  const auto report = Run();
  ASSERT_TRUE(report.ok()) << report.status();
  ASSERT_GT(report->manifest.source.dropped.at("norm_above_10x"), 0);
  ASSERT_EQ(model_.asked.size(), 2U);
  EXPECT_EQ(HookName(model_.asked[1]), "blocks.1.hook_mlp_out");
  EXPECT_EQ(report->manifest.target_d, kWidth);
  EXPECT_EQ(report->manifest.source.target_hook, "blocks.1.hook_mlp_out");
  auto store = data::ActivationStore::Open(options_.out, data::StoreVerify::kAtOpen);
  ASSERT_TRUE(store.ok()) << store.status();
  EXPECT_TRUE((*store)->VerifyAll().ok());
  for (const data::Split split : {data::Split::kTraining, data::Split::kHeldout}) {
    ASSERT_GT((*store)->rows(split), 0);
    std::vector<float> rows(static_cast<std::size_t>((*store)->rows(split) * 2 * kWidth));
    ASSERT_TRUE((*store)->ReadRows(split, 0, rows, data::RowKind::kWithTargets).ok());
    for (std::size_t i = 0; i < rows.size(); i += 2 * kWidth)
      EXPECT_EQ(rows[i + kWidth], rows[i] + 10);
  }
}

TEST_F(HarvestTest, BadTargetHooksAreRefusedBeforeTheModelRuns) {
  options_.target_hook = options_.hook;
  EXPECT_NE(Message(Run().status()).find("hook and target hook are both"), std::string::npos);
  options_.target_hook = "blocks.1.hook_mlp";
  EXPECT_NE(Message(Run().status()).find("did you mean blocks.1.hook_mlp_out?"), std::string::npos);
  EXPECT_EQ(model_.runs, 0);
  ExpectNothingIsLeft();
  options_.target_hook = "blocks.1.hook_mlp_out";
  model_.poison_targets = true;
  EXPECT_NE(Message(Run().status()).find("of the targets is nan"), std::string::npos);
  ExpectNothingIsLeft();
}

TEST_F(HarvestTest, TextsAreStoredWithTheirTokens) {
  ASSERT_TRUE(Run().ok());
  auto store = data::ActivationStore::Open(options_.out);
  ASSERT_TRUE(store.ok());
  int texts = 0;
  ASSERT_TRUE((*store)
                  ->ReadTexts([&](const data::StoreText& text) {
                    EXPECT_EQ(text.document, texts++);
                    EXPECT_EQ(text.token_ids.size(), text.text.size());
                    EXPECT_EQ(text.token_ends.back(), static_cast<std::int32_t>(text.text.size()));
                    return true;
                  })
                  .ok());
  EXPECT_EQ(texts, 30);
}

TEST_F(HarvestTest, ConcatDropsSeparatorsAndContextStartsWhateverTheBatch) {
  options_.packing = Packing::kConcat;
  std::vector<Row> first;
  for (const std::int64_t batch : {1, 20, 1000}) {
    options_.batch_tokens = batch;
    auto report = Run();
    ASSERT_TRUE(report.ok()) << report.status();
    const auto rows = Rows();
    if (first.empty()) first = rows;
    ASSERT_EQ(rows.size(), first.size());
    for (std::size_t i = 0; i < rows.size(); ++i)
      ASSERT_EQ(rows[i].values, first[i].values) << batch << " row " << i;
    // A separator is dropped as such even where a context starts with it.
    EXPECT_EQ(report->separators, 30);
    EXPECT_EQ(report->manifest.source.dropped.at("special_tokens"), 30);
    const std::int64_t stream = report->tokens + 30;
    EXPECT_LE(report->manifest.source.dropped.at("position_0"), (stream + 7) / 8);
    EXPECT_EQ(static_cast<std::int64_t>(rows.size()),
              stream - 30 - report->manifest.source.dropped.at("position_0"));
  }
  std::set<float> positions;
  for (const Row& row : first) positions.insert(row.values[1]);
  EXPECT_EQ(positions, (std::set<float>{1, 2, 3, 4, 5, 6, 7}));
}

TEST_F(HarvestTest, KeepFirstKeepsThem) {
  options_.keep_first = true;
  auto report = Run();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->manifest.rows, report->tokens);
  EXPECT_EQ(report->manifest.source.dropped.at("position_0"), 0);
}

TEST_F(HarvestTest, RowsBeyondAMultipleOfTheMedianAreDroppedAndCounted) {
  model_.loud = 2 + 'k';
  ASSERT_TRUE(Run().ok());
  std::int64_t loud = 0;
  for (const Row& row : Rows()) loud += row.token == model_.loud;
  ASSERT_GE(loud, 5);
  for (const char* limit : {"10x", "1000"}) {
    options_.drop_norm_above = *ParseNormLimit(limit);
    auto report = Run();
    ASSERT_TRUE(report.ok()) << report.status();
    EXPECT_EQ(report->manifest.source.dropped.at(std::string("norm_above_") + limit), loud);
    for (const Row& row : Rows()) EXPECT_NE(row.token, model_.loud);
    EXPECT_LT(report->norms.largest(), 400);
  }
}

TEST_F(HarvestTest, WarnsWhenFewRowsHoldMuchOfTheSumOfSquares) {
  text_.clear();
  for (int i = 0; i < 300; ++i) text_ += "abcdef\n\n";
  EXPECT_EQ(Run()->warning, "");
  text_ += "akz\n\n";
  model_.loud = 2 + 'k';
  auto report = Run();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_NE(report->warning.find("--drop-norm-above 10x"), std::string::npos) << report->warning;
  EXPECT_GT(report->top_share, 0.5);
}

TEST_F(HarvestTest, ASampleRunsExactlyItsTokensAndIsRepeatable) {
  options_.tokens = 50;
  options_.seed = 7;
  auto report = Run();
  ASSERT_TRUE(report.ok()) << report.status();
  EXPECT_EQ(report->tokens, 50);
  const auto rows = Rows();
  std::int32_t last = -1;
  for (const Row& row : rows)
    EXPECT_GE(row.document, std::exchange(last, row.document));  // sequential order
  ASSERT_TRUE(Run().ok());
  const auto again = Rows();
  ASSERT_EQ(rows.size(), again.size());
  for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_EQ(rows[i].values, again[i].values);
}

TEST_F(HarvestTest, HeldOutIsByDocument) {
  options_.heldout = 0.3;
  options_.shuffled = true;
  ASSERT_TRUE(Run().ok());
  std::set<std::int32_t> training;
  for (const Row& row : Rows()) training.insert(row.document);
  const auto heldout = Rows(data::Split::kHeldout);
  EXPECT_GT(heldout.size(), 5U);
  for (const Row& row : heldout) EXPECT_EQ(training.count(row.document), 0U);
}

TEST_F(HarvestTest, AStoppedHarvestLeavesNothing) {
  options_.stop = [this] { return model_.runs >= 2; };
  auto report = Run();
  EXPECT_EQ(report.status().code(), absl::StatusCode::kCancelled) << report.status();
  EXPECT_EQ(model_.runs, 2);
  ExpectNothingIsLeft();
}

TEST_F(HarvestTest, ProgressCountsUpToTheEnd) {
  std::map<std::string, std::pair<std::int64_t, std::int64_t>> last;
  options_.progress = [&](const std::string& phase, std::int64_t done, std::int64_t total) {
    EXPECT_GE(done, last[phase].first);
    last[phase] = {done, total};
  };
  auto report = Run();
  ASSERT_TRUE(report.ok());
  EXPECT_EQ(last["run"], std::make_pair(report->tokens, report->tokens));
  EXPECT_EQ(last["write"].first, last["write"].second);
}

TEST_F(HarvestTest, BadRequestsAreRefusedBeforeAnythingRuns) {
  const auto expect = [&](const char* words) {
    const auto status = Run().status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << status;
    EXPECT_NE(Message(status).find(words), std::string::npos) << status;
    EXPECT_EQ(model_.runs, 0);
    ExpectNothingIsLeft();
  };
  options_.hook = "blocks.3.hook_resid_post";
  expect("N = 0..2");
  options_.hook = "hook_embed";
  options_.context = 65;
  expect("context 65 is outside 2 to 64");
  options_.context = 8;
  options_.tokens = -1;
  expect("tokens is -1");
  options_.tokens = 0;
  text_ = "\n \n";
  expect("is empty");
  text_ = "{\"text\": \"\"}\n";
  expect("has no tokens");
}

TEST_F(HarvestTest, ATooSmallDiskIsRefusedBeforeTheModelRuns) {
  sae::testing::FaultEnv env(RealEnv());
  env.set_free_bytes(1000);
  const auto status = Run(env).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kResourceExhausted) << status;
  EXPECT_EQ(model_.runs, 0);
  ExpectNothingIsLeft();
}

TEST_F(HarvestTest, WhenNoRowIsLeftOrARowIsNotFiniteThereIsNoStore) {
  text_ = "a\n\nb\n";
  EXPECT_EQ(Run().status().code(), absl::StatusCode::kInvalidArgument);
  ExpectNothingIsLeft();
  text_ = "abc\n";
  model_.poison = true;
  EXPECT_FALSE(Run().ok());
  ExpectNothingIsLeft();
}

}  // namespace
}  // namespace sae::lm
