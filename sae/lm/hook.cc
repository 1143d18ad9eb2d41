#include "sae/lm/hook.h"

#include "sae/base/ids.h"

namespace sae::lm {
namespace {

constexpr HookPoint kBlockPoints[] = {HookPoint::kResidPre, HookPoint::kAttnOut,
                                      HookPoint::kLn2Normalized, HookPoint::kMlpOut,
                                      HookPoint::kResidPost};

const char* PointName(HookPoint point) {
  switch (point) {
    case HookPoint::kEmbed:
      return "hook_embed";
    case HookPoint::kResidPre:
      return "hook_resid_pre";
    case HookPoint::kAttnOut:
      return "hook_attn_out";
    case HookPoint::kLn2Normalized:
      return "ln2.hook_normalized";
    case HookPoint::kMlpOut:
      return "hook_mlp_out";
    case HookPoint::kResidPost:
      return "hook_resid_post";
  }
  return "";
}

}  // namespace

std::string HookNames(std::int64_t blocks) {
  std::string points;
  for (const HookPoint point : kBlockPoints)
    absl::StrAppend(&points, points.empty() ? "" : ", ", PointName(point));
  return absl::StrCat("hook_embed and blocks.N.{", points, "} for N = 0..", blocks - 1);
}

std::string HookName(const Hook& hook) {
  if (hook.point == HookPoint::kEmbed) return PointName(hook.point);
  return absl::StrCat("blocks.", hook.block, ".", PointName(hook.point));
}

absl::StatusOr<Hook> ParseHook(const std::string& name, int blocks) {
  std::vector<std::string> names = {"hook_embed"};
  if (name == names[0]) return Hook{};
  for (int block = 0; block < blocks; ++block) {
    for (const HookPoint point : kBlockPoints) {
      const Hook hook{block, point};
      names.push_back(HookName(hook));
      if (names.back() == name) return hook;
    }
  }
  const std::string nearest = Nearest(name, names);
  return absl::InvalidArgumentError(
      absl::StrCat("no hook \"", name, "\": the model has ", HookNames(blocks),
                   nearest.empty() ? "" : absl::StrCat("; did you mean ", nearest, "?")));
}

}  // namespace sae::lm
