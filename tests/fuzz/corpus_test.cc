// Every input that was ever worth keeping goes through its parser in every build: the seeds, the corpus, and simple
// damage to both.
#include <filesystem>
#include <fstream>
#include <iterator>

#include <gtest/gtest.h>

#include "sae/base/random.h"
#include "tests/fuzz/targets.h"

namespace sae::fuzz {
namespace {

std::vector<std::string> Corpus(const Target& target) {
  std::vector<std::string> out;
  const std::filesystem::path folder =
      std::filesystem::path(SAE_SOURCE_DIR) / "tests/fuzz/corpus" / target.name;
  if (!std::filesystem::exists(folder)) return out;
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    std::ifstream in(entry.path(), std::ios::binary);
    out.emplace_back(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
  }
  return out;
}

class FuzzCorpus : public ::testing::TestWithParam<Target> {};

TEST_P(FuzzCorpus, EveryInputIsTakenOrRefused) {
  const std::vector<std::string> seeds = GetParam().seeds(), corpus = Corpus(GetParam());
  ASSERT_FALSE(seeds.empty());
  ASSERT_FALSE(corpus.empty());
  for (const auto* inputs : {&seeds, &corpus}) {
    for (const std::string& bytes : *inputs) GetParam().run(bytes);
  }
}

TEST_P(FuzzCorpus, DamagedInputsToo) {
  Random random(7);
  for (const std::string& bytes : GetParam().seeds()) {
    if (bytes.empty()) continue;
    for (int i = 0; i < 200; ++i) {
      std::string damaged = bytes;
      const std::size_t at = random.Below(damaged.size());
      switch (random.Below(4)) {
        case 0:
          damaged[at] = static_cast<char>(random.Below(256));
          break;
        case 1:
          damaged.resize(at);
          break;
        case 2:
          damaged.insert(at, 1, static_cast<char>(random.Below(256)));
          break;
        default:
          damaged.erase(at, 1 + random.Below(8));
      }
      GetParam().run(damaged);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Targets, FuzzCorpus, ::testing::ValuesIn(kTargets),
                         [](const auto& target) { return std::string(target.param.name); });

}  // namespace
}  // namespace sae::fuzz
