#include "sae/lm/language_model.h"

namespace sae::lm {

absl::StatusOr<std::unique_ptr<LanguageModel>> LoadLlama(const GgufReader& gguf,
                                                         const LanguageModelOptions&) {
  return absl::UnimplementedError(absl::StrCat(
      gguf.path(), ": this build cannot run language models: build with -DSAE_WITH_TORCH=ON"));
}

}  // namespace sae::lm
