#include "server/service/watch_request.h"

#include <algorithm>

#include "absl/strings/numbers.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"

#include "sae/base/hash.h"
#include "server/core/state.h"
#include "server/service/convert.h"

namespace sae::server {
namespace {

constexpr int kMostTrials = 1000;
constexpr int kLongestConflate = 60'000;

std::string Mark(const std::string& sweep) {
  return absl::StrFormat("%08x", static_cast<std::uint32_t>(Xxh3(sweep)));
}

}  // namespace

std::string ResumeToken(const std::string& sweep, std::int64_t seq) {
  return absl::StrCat("1.", Mark(sweep), ".", seq);
}

absl::StatusOr<std::int64_t> ParseResumeToken(const std::string& token, const std::string& sweep) {
  const std::vector<std::string> parts = absl::StrSplit(token, '.');
  std::int64_t seq = 0;
  if (parts.size() == 3 && parts[0] == "1" && parts[1] == Mark(sweep) &&
      absl::SimpleAtoi(parts[2], &seq) && seq >= 0)
    return seq;
  return absl::InvalidArgumentError(absl::StrCat("resume_token: \"", token.substr(0, 60),
                                                 "\" is not of a stream of sweep ", sweep,
                                                 "; leave it empty to begin at after_seq"));
}

absl::StatusOr<WatchFilter> ParseWatch(const saeloom::v1::WatchSweepRequest& request) {
  WatchFilter filter;
  SAE_ASSIGN_OR_RETURN(filter.sweep, ParseSweepName(request.name(), "name"));
  filter.after = request.after_seq();
  if (filter.after < 0) {
    return absl::InvalidArgumentError(absl::StrCat("after_seq: ", filter.after, ", must be >= 0"));
  }
  if (!request.resume_token().empty()) {
    SAE_ASSIGN_OR_RETURN(filter.after, ParseResumeToken(request.resume_token(), filter.sweep));
  }
  if (request.trials_size() > kMostTrials) {
    return absl::InvalidArgumentError(absl::StrCat("trials: ", request.trials_size(),
                                                   " names, at most ", kMostTrials,
                                                   "; leave it empty for all"));
  }
  for (const std::string& trial : request.trials()) {
    const int index = TrialIndexOf(trial);
    if (index < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("trials: \"", trial, "\" is no trial's bare name, as 0000"));
    }
    filter.trials.push_back(index);
  }
  std::sort(filter.trials.begin(), filter.trials.end());
  filter.trials.erase(std::unique(filter.trials.begin(), filter.trials.end()), filter.trials.end());
  filter.trials.shrink_to_fit();
  if (request.kinds_size() > 0) {
    filter.lifecycle = filter.points = false;
    for (const int kind : request.kinds()) {
      switch (kind) {
        case saeloom::v1::WatchSweepRequest::KIND_LIFECYCLE:
          filter.lifecycle = true;
          break;
        case saeloom::v1::WatchSweepRequest::KIND_POINT:
          filter.points = true;
          break;
        case saeloom::v1::WatchSweepRequest::KIND_COUNTS:
          filter.counts = true;
          break;
        default:
          return absl::InvalidArgumentError(absl::StrCat("kinds: ", kind, " is unknown"));
      }
    }
  }
  if (request.conflate_ms() < 0 || request.conflate_ms() > kLongestConflate) {
    return absl::InvalidArgumentError(
        absl::StrCat("conflate_ms: ", request.conflate_ms(), ", must be 0 to ", kLongestConflate));
  }
  filter.conflate = absl::Milliseconds(request.conflate_ms());
  return filter;
}

}  // namespace sae::server
