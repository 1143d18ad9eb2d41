// Writes SAELens exports of random SAEs of every kind, each with golden.safetensors, for
// tools/check_saelens.py:
//   saelens_samples FOLDER && python tools/check_saelens.py FOLDER/*
#include <cstdio>

#include "sae/checkpoint/saelens.h"
#include "sae/model/test_sae.h"

namespace sae::checkpoint {
namespace {
using model::Normalisation;

std::string NameOf(const model::TestSaeOptions& o) {
  return absl::StrCat(o.architecture, o.transcoder ? "-transcoder" : "", o.skip ? "-skip" : "",
                      o.d_out > 0 ? "-two-widths" : "", o.pre_bias ? "" : "-no-pre-bias",
                      o.normalisation == Normalisation::kLayerNorm      ? "-layer-norm"
                      : o.normalisation == Normalisation::kConstantNorm ? "-constant-norm"
                                                                        : "");
}

std::vector<model::TestSaeOptions> Samples() {
  std::vector<model::TestSaeOptions> all;
  for (const char* architecture :
       {"relu_l1", "topk", "batchtopk", "matryoshka", "gated", "jumprelu"}) {
    const model::TestSaeOptions plain{
        .architecture = architecture, .d = 48, .latents = 700, .k = 24};
    for (const Normalisation n :
         {Normalisation::kNone, Normalisation::kLayerNorm, Normalisation::kConstantNorm}) {
      for (const bool pre_bias : {true, false}) {
        all.push_back(plain);
        all.back().normalisation = n;
        all.back().pre_bias = pre_bias;
      }
    }
    for (const bool pre_bias : {true, false}) {
      all.push_back(plain);
      all.back().transcoder = true;
      all.back().pre_bias = pre_bias;
    }
    if (std::string(architecture) == "topk") continue;  // SAELens has no other topk transcoders
    for (const bool skip : {true, false}) {
      all.push_back(plain);
      all.back().transcoder = true;
      all.back().skip = skip;
      all.back().d_out = 36;
      all.back().pre_bias = false;
    }
  }
  return all;
}

absl::Status Write(const std::string& folder) {
  ThreadPool pool(1);
  for (const model::TestSaeOptions& options : Samples()) {
    const std::string path = folder + "/" + NameOf(options);
    SAE_RETURN_IF_ERROR(Annotate(WriteSaeLens(RealEnv(), path, model::RandomSae(options)), path));
    SAE_RETURN_IF_ERROR(
        WriteSaeLensGolden(RealEnv(), path, model::RandomValues(7, 300 * options.d, 2), pool));
  }
  return absl::OkStatus();
}

}  // namespace
}  // namespace sae::checkpoint

int main(int argc, char** argv) {
  if (argc != 2) {
    std::fprintf(stderr, "usage: saelens_samples FOLDER\n");
    return 2;
  }
  const absl::Status status = sae::checkpoint::Write(argv[1]);
  if (!status.ok()) std::fprintf(stderr, "saelens_samples: %s\n", sae::Message(status).c_str());
  return status.ok() ? 0 : 1;
}
