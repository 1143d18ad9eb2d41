#include "sae/checkpoint/manifest.h"

#include <gtest/gtest.h>

#include <limits>

namespace sae::checkpoint {
namespace {

Manifest Example() {
  Manifest m;
  m.info.step = 12;
  m.info.tokens = 24576;
  m.info.d = 4;
  m.info.data_position = 24576;
  m.info.config.sae.latents = 16;
  m.info.config.train.lr = 0.1;
  m.info.store = "/data/st\xffore";
  m.latents = 16;
  m.block_latents = 2;
  m.world_size = 2;
  m.scalars["step"] = std::int64_t{12};
  m.scalars["scale"] = 0.1;
  m.scalars["whole"] = 2.0;
  m.scalars["bound"] = std::numeric_limits<double>::infinity();
  m.tensors.push_back({"W_enc", DType::kF32, {16, 4}, true});
  m.files.push_back({"latents-00000.safetensors", 100, "xxh3:00000000000000aa", 0, 2});
  return m;
}

TEST(Manifest, ComesBackExactly) {
  const auto m = ParseManifest(ToJson(Example()));
  ASSERT_TRUE(m.ok()) << m.status();
  EXPECT_EQ(m->info.step, 12);
  EXPECT_EQ(m->info.data_position, 24576);
  EXPECT_EQ(m->info.config.sae.latents, 16);
  EXPECT_EQ(m->info.config.train.lr, 0.1);
  EXPECT_EQ(std::get<std::int64_t>(m->scalars.at("step")), 12);
  EXPECT_EQ(std::get<double>(m->scalars.at("scale")), 0.1);
  EXPECT_EQ(std::get<double>(m->scalars.at("whole")), 2.0);
  EXPECT_EQ(std::get<double>(m->scalars.at("bound")), std::numeric_limits<double>::infinity());
  ASSERT_EQ(m->tensors.size(), 1U);
  EXPECT_EQ(m->tensors[0].shape, (std::vector<std::int64_t>{16, 4}));
  ASSERT_EQ(m->files.size(), 1U);
  EXPECT_EQ(m->files[0].rows, 2);
  EXPECT_EQ(ToJson(*m), ToJson(*ParseManifest(ToJson(*m))));
}

TEST(Manifest, EveryFlippedByteThatChangesAValueIsFound) {
  const std::string good = ToJson(Example());
  for (std::size_t i = 0; i < good.size(); ++i) {
    if (good[i] == ' ' || good[i] == '\n') continue;
    std::string bad = good;
    bad[i] = static_cast<char>(bad[i] ^ 1);
    EXPECT_FALSE(ParseManifest(bad).ok()) << "byte " << i << " of " << bad;
  }
}

TEST(Manifest, EveryTruncationIsFound) {
  const std::string good = ToJson(Example());
  for (std::size_t size = 0; size + 2 < good.size(); ++size) EXPECT_FALSE(ParseManifest(good.substr(0, size)).ok());
}

}  // namespace
}  // namespace sae::checkpoint
