#include "sae/data/latent_examples.h"

#include <gmock/gmock.h>

#include "sae/data/store_test_util.h"

namespace sae::data {
namespace {
using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// Ten documents of the words "w0 w1 w2 w3 w4 w5 ü", a token a word; the row of word p of document
/// t is (t, p). "ü" is two tokens of one byte each after its blank.
class LatentExamplesTest : public ScratchTest {
 protected:
  void SetUp() override {
    ScratchTest::SetUp();
    StoreWriterOptions o;
    o.directory = directory_;
    o.d = 2;
    o.dtype = DType::kF32;
    o.heldout_fraction = 0;
    auto writer = StoreWriter::Create(o);
    ASSERT_TRUE(writer.ok());
    for (std::int32_t t = 0; t < 10; ++t) {
      StoreText text;
      text.document = t;
      std::vector<float> rows;
      std::vector<std::int32_t> tokens, positions;
      for (std::int32_t p = 0; p < 8; ++p) {
        if (p < 6) text.text += (p == 0 ? "w" : " w") + std::to_string(p);
        if (p == 6) text.text += " \xC3";
        if (p == 7) text.text += "\xBC";
        text.token_ids.push_back(100 + p);
        text.token_ends.push_back(static_cast<std::int32_t>(text.text.size()));
        if (p == 0) continue;  // position 0 is dropped, as a harvest does
        rows.insert(rows.end(), {static_cast<float>(t), static_cast<float>(p)});
        tokens.push_back(100 + p);
        positions.push_back(p);
      }
      const std::vector<std::int32_t> documents(rows.size() / 2, t);
      ASSERT_TRUE((*writer)->Append({rows, tokens, positions, documents}).ok());
      ASSERT_TRUE((*writer)->AddText(text).ok());
    }
    ASSERT_TRUE((*writer)->Finish().ok());
    store_ = *ActivationStore::Open(directory_);
  }

  /// Latent 0: fires everywhere. 1: at word 3 with value document + 1, at word 5 with half of that.
  /// 2: at word 7 (half of a character) of document 4 alone. 3: never.
  static absl::Status Planted(std::span<const float> rows, const EmitCode& emit) {
    for (std::size_t i = 0; i < rows.size(); i += 2) {
      const auto row = static_cast<std::int64_t>(i / 2);
      emit(row, 0, 0.5F);
      if (rows[i + 1] == 3) emit(row, 1, rows[i] + 1);
      if (rows[i + 1] == 5) emit(row, 1, (rows[i] + 1) / 2);
      if (rows[i + 1] == 7 && rows[i] == 4) emit(row, 2, 3.0F);
    }
    return absl::OkStatus();
  }

  std::unique_ptr<ActivationStore> store_;
};

TEST_F(LatentExamplesTest, FindsThePlantedPeaksInTheirTexts) {
  LatentExampleOptions o;
  o.latents = {1, 2, 3};
  o.top = 3;
  o.tokens_before = 2;
  o.tokens_after = 1;
  auto reports = FindLatentExamples(*store_, 4, o, Planted);
  ASSERT_TRUE(reports.ok()) << reports.status();
  EXPECT_EQ(reports->rows, 70);
  const LatentReport& one = reports->latents[0];
  EXPECT_EQ(one.latent, 1);
  EXPECT_EQ(one.fired, 20);
  EXPECT_DOUBLE_EQ(one.density, 20.0 / 70.0);
  EXPECT_DOUBLE_EQ(one.mean_when_active, (55.0 + 27.5) / 20.0);
  EXPECT_EQ(one.max, 10.0F);
  ASSERT_EQ(one.examples.size(), 3U);
  for (int i = 0; i < 3; ++i) {
    const LatentExample& e = one.examples[static_cast<std::size_t>(i)];
    EXPECT_EQ(e.document, 9 - i);
    EXPECT_EQ(e.value, static_cast<float>(10 - i));
    EXPECT_EQ(e.position, 3);
    EXPECT_EQ(e.token_id, 103);
    EXPECT_EQ(e.before, " w1 w2");
    EXPECT_EQ(e.peak, " w3");
    EXPECT_EQ(e.after, " w4");
    ASSERT_EQ(e.active.size(), 2U);
    EXPECT_EQ(e.active[1].position, 5);
    EXPECT_EQ(e.active[1].value, static_cast<float>(10 - i) / 2);
  }
  ASSERT_EQ(reports->latents[1].examples.size(), 1U);
  const LatentExample& split_character = reports->latents[1].examples[0];
  EXPECT_EQ(split_character.peak, "\xC3\xBC") << "a character that tokens split is shown whole";
  EXPECT_EQ(split_character.before, " w5 ");
  EXPECT_EQ(split_character.after, "");
  EXPECT_EQ(reports->latents[2].fired, 0);
  EXPECT_TRUE(reports->latents[2].examples.empty());
}

TEST_F(LatentExamplesTest, ChoosesLatentsOfMiddlingDensityByItself) {
  LatentExampleOptions o;
  o.count = 1;
  std::int64_t last = 0, total = 0;
  auto reports =
      FindLatentExamples(*store_, 4, o, Planted, [&](std::int64_t done, std::int64_t all) {
        EXPECT_GT(done, last);
        last = done;
        total = all;
      });
  ASSERT_TRUE(reports.ok()) << reports.status();
  ASSERT_EQ(reports->latents.size(), 1U);
  EXPECT_EQ(reports->latents[0].latent,
            0);  // alive (>= 10 rows): 1 with 20, 0 with 70; rank floor(2 * 0.5)
  EXPECT_EQ(last, 140);
  EXPECT_EQ(total, 140);
}

TEST(MiddlingLatentsTest, TakesTheRanksOfItsRule) {
  std::vector<std::int64_t> fired(100);
  for (std::size_t i = 0; i < 100; ++i)
    fired[i] = static_cast<std::int64_t>(1000 - i);  // latent 99 is the rarest
  EXPECT_THAT(MiddlingLatents(fired, 5), ElementsAre(99 - 30, 99 - 40, 99 - 50, 99 - 60, 99 - 70));
  EXPECT_THAT(MiddlingLatents({5, 0, 3}, 5), ElementsAre(2, 0));
  EXPECT_THAT(MiddlingLatents({50, 12, 3, 0, 11}, 2), ElementsAre(1, 0));
  EXPECT_THAT(MiddlingLatents({7, 7, 7, 7}, 3), ElementsAre(1, 2, 3));
  EXPECT_TRUE(MiddlingLatents({0, 0}, 3).empty());
}

TEST_F(LatentExamplesTest, MistakesAreNamed) {
  LatentExampleOptions o;
  o.latents = {4};
  EXPECT_THAT(Message(FindLatentExamples(*store_, 4, o, Planted).status()),
              HasSubstr("latent 4 is not in 0 to 3"));
  o.latents.clear();
  const auto silent = [](std::span<const float>, const EmitCode&) { return absl::OkStatus(); };
  EXPECT_EQ(FindLatentExamples(*store_, 4, o, silent).status().code(),
            absl::StatusCode::kFailedPrecondition);
  const auto broken = [](std::span<const float>, const EmitCode&) {
    return absl::InternalError("no");
  };
  EXPECT_EQ(FindLatentExamples(*store_, 4, o, broken).status().code(), absl::StatusCode::kInternal);
  o.split = Split::kHeldout;
  EXPECT_THAT(Message(FindLatentExamples(*store_, 4, o, Planted).status()),
              HasSubstr("no held-out rows"));
}

}  // namespace
}  // namespace sae::data
