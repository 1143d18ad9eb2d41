#include "tests/simt/names.h"

#include <cstdio>
#include <cstring>

#include "absl/strings/str_cat.h"

namespace sae::simt {

std::string DimText(dim3 value) {
  return absl::StrCat("(", value.x, ",", value.y, ",", value.z, ")");
}

std::string MaskText(unsigned mask) {
  char text[16];
  std::snprintf(text, sizeof(text), "0x%08x", mask);
  return text;
}

std::string FileName(const char* path) {
  const char* slash = std::strrchr(path, '/');
  return slash == nullptr ? path : slash + 1;
}

std::string WarpOpText(WarpOp op, const char* file, int id) {
  switch (op) {
    case WarpOp::kBarrier:
      return absl::StrCat("warp barrier ", FileName(file), ":", id);
    case WarpOp::kShuffle:
      return "__shfl_sync";
    case WarpOp::kShuffleUp:
      return "__shfl_up_sync";
    case WarpOp::kShuffleDown:
      return "__shfl_down_sync";
    case WarpOp::kShuffleXor:
      return "__shfl_xor_sync";
    case WarpOp::kBallot:
      return "__ballot_sync";
    case WarpOp::kAny:
      return "__any_sync";
    case WarpOp::kAll:
      return "__all_sync";
    case WarpOp::kMatchAny:
      return "__match_any_sync";
    case WarpOp::kReduceAdd:
      return "__reduce_add_sync";
    case WarpOp::kReduceMin:
    case WarpOp::kReduceMinSigned:
      return "__reduce_min_sync";
    case WarpOp::kReduceMax:
    case WarpOp::kReduceMaxSigned:
      return "__reduce_max_sync";
  }
  return "a warp function";
}

}  // namespace sae::simt
