// One libFuzzer program a target (SAE_FUZZ_TARGET is its place in kTargets). `--write-seeds FOLDER` writes the seeds.
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>

#include "tests/fuzz/targets.h"

extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) {
  if (*argc != 3 || std::strcmp((*argv)[1], "--write-seeds") != 0) return 0;
  int i = 0;
  for (const std::string& seed : sae::fuzz::kTargets[SAE_FUZZ_TARGET].seeds()) {
    std::ofstream out(std::string((*argv)[2]) + "/seed-" + std::to_string(i++), std::ios::binary);
    out << seed;
    if (!out.flush()) std::exit(1);
  }
  std::exit(0);
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  sae::fuzz::kTargets[SAE_FUZZ_TARGET].run(std::string(reinterpret_cast<const char*>(data), size));
  return 0;
}
