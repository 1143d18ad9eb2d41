#include "server/core/states.h"

#include <array>

namespace sae::server {
namespace {

constexpr std::array<const char*, 12> kTrialWords = {
    "",       "PENDING",   "ALLOCATED", "STARTING",      "RUNNING", "CHECKPOINTING",
    "PAUSED", "PREEMPTED", "SUCCEEDED", "STOPPED_EARLY", "FAILED",  "CANCELLED"};
constexpr std::array<const char*, 6> kSweepWords = {"",       "RUNNING",   "SUCCEEDED",
                                                    "FAILED", "CANCELLED", "PAUSED"};
constexpr std::array<const char*, 5> kStopWords = {"", "pause", "preempt", "stop", "cancel"};
constexpr std::array<const char*, 12> kFailureWords = {"",
                                                       "NODE_LOST",
                                                       "GPU_FAULT",
                                                       "RENDEZVOUS_TIMEOUT",
                                                       "OOM_GPU",
                                                       "OOM_HOST",
                                                       "USER_ERROR",
                                                       "HANG",
                                                       "NO_PROGRESS",
                                                       "INVALID_CONFIG",
                                                       "CHECKPOINT_UNREADABLE",
                                                       "INTERNAL"};

template <typename Enum, std::size_t N>
absl::StatusOr<Enum> Parse(const std::array<const char*, N>& words, const std::string& word,
                           const char* what) {
  for (std::size_t i = 0; i < N; ++i) {
    if (word == words[i]) return static_cast<Enum>(i);
  }
  return absl::InvalidArgumentError(absl::StrCat("unknown ", what, " \"", word, "\""));
}

template <typename Enum>
std::vector<Enum> From1To(Enum last) {
  std::vector<Enum> all;
  for (int i = 1; i <= static_cast<int>(last); ++i) all.push_back(static_cast<Enum>(i));
  return all;
}

}  // namespace

std::string ToString(TrialState state) { return kTrialWords[static_cast<std::size_t>(state)]; }
std::string ToString(SweepState state) { return kSweepWords[static_cast<std::size_t>(state)]; }
std::string ToString(FailureClass failure) {
  return kFailureWords[static_cast<std::size_t>(failure)];
}
std::string ToString(StopWanted wanted) { return kStopWords[static_cast<std::size_t>(wanted)]; }

absl::StatusOr<TrialState> ParseTrialState(const std::string& word) {
  return Parse<TrialState>(kTrialWords, word, "trial state");
}
absl::StatusOr<SweepState> ParseSweepState(const std::string& word) {
  return Parse<SweepState>(kSweepWords, word, "sweep state");
}
absl::StatusOr<FailureClass> ParseFailureClass(const std::string& word) {
  return Parse<FailureClass>(kFailureWords, word, "failure class");
}
absl::StatusOr<StopWanted> ParseStopWanted(const std::string& word) {
  return Parse<StopWanted>(kStopWords, word, "way to stop");
}

const std::vector<TrialState>& AllTrialStates() {
  static const std::vector<TrialState> all = From1To(TrialState::kCancelled);
  return all;
}
const std::vector<SweepState>& AllSweepStates() {
  static const std::vector<SweepState> all = From1To(SweepState::kPaused);
  return all;
}

bool TransitionAllowed(TrialState from, TrialState to) {
  using S = TrialState;
  if (from == S::kUnspecified || HasEnded(from)) return false;
  if (to == S::kCancelled) return true;
  const bool verdict = to == S::kSucceeded || to == S::kStoppedEarly || to == S::kFailed;
  switch (from) {
    case S::kPending:
      return to == S::kAllocated || to == S::kPaused || to == S::kStoppedEarly;
    case S::kAllocated:
      return to == S::kStarting || to == S::kCheckpointing || to == S::kPending || verdict;
    case S::kStarting:
      return to == S::kRunning || to == S::kCheckpointing || to == S::kPending || verdict;
    case S::kRunning:
      return to == S::kCheckpointing || to == S::kPending || verdict;
    case S::kCheckpointing:
      return to == S::kPaused || to == S::kPreempted || to == S::kPending || verdict;
    case S::kPaused:
      return to == S::kPending || to == S::kStoppedEarly;
    case S::kPreempted:
      return to == S::kPending;
    default:
      return false;
  }
}

}  // namespace sae::server
