#pragma once
// Payload bytes that a step of this rank puts into collectives, by what they are for: labels of the
// traffic (comm/traffic.h) gathered into the names of metrics. Trials of a gang share one traffic;
// what others send while this one waits in a meeting is left out. Not thread-safe.

#include <array>
#include <cstdint>
#include <map>
#include <string>

#include "absl/strings/str_cat.h"

#include "sae/comm/traffic.h"
#include "sae/kernels/block_meeting.h"
#include "sae/train/engine/mesh.h"

namespace sae::train {

class StepBytes {
  struct Label {
    const char* label;
    const char* metric;
  };
  static constexpr std::array<Label, 9> kLabels = {{{"selection", "selection"},
                                                    {"select.first", "selection"},
                                                    {"select.second", "selection"},
                                                    {"select.ties", "selection"},
                                                    {"select.histogram", "selection"},
                                                    {"decode", "decode"},
                                                    {"auxk", "auxk"},
                                                    {"sums", "sums"},
                                                    {"rows", "rows"}}};

 public:
  void Begin(const comm::Traffic& traffic) {
    for (std::size_t i = 0; i < kLabels.size(); ++i) before_[i] = Now(traffic, i);
  }
  void End(const comm::Traffic& traffic) {
    for (std::size_t i = 0; i < kLabels.size(); ++i) sent_[i] = Now(traffic, i) - before_[i];
  }
  /// "bytes.selection", ..., "bytes.total" of the step that ended last.
  void AddMetrics(std::map<std::string, double>* out) const {
    double total = 0;
    for (std::size_t i = 0; i < kLabels.size(); ++i) {
      const auto bytes = static_cast<double>(sent_[i]);
      (*out)[absl::StrCat("bytes.", kLabels[i].metric)] += bytes;
      total += bytes;
    }
    (*out)["bytes.total"] = total;
  }

  /// A gang's meeting as one of its engines sees it.
  class Meeting final : public kernels::BlockMeeting {
   public:
    Meeting(StepBytes& bytes, const Mesh& mesh) : bytes_(bytes), mesh_(mesh) {}
    void set_gang(kernels::BlockMeeting* gang) { gang_ = gang; }
    void Run(const kernels::BlockJob& job, ThreadPool& pool) override {
      const comm::Traffic& traffic = mesh_.world().traffic();
      std::array<std::int64_t, kLabels.size()> waiting{};
      for (std::size_t i = 0; i < kLabels.size(); ++i) waiting[i] = Now(traffic, i);
      gang_->Run(job, pool);
      for (std::size_t i = 0; i < kLabels.size(); ++i)
        bytes_.before_[i] += Now(traffic, i) - waiting[i];
      mesh_.SetPurpose("selection");  // the others have set theirs
    }

   private:
    StepBytes& bytes_;
    const Mesh& mesh_;
    kernels::BlockMeeting* gang_ = nullptr;
  };

 private:
  static std::int64_t Now(const comm::Traffic& traffic, std::size_t label) {
    return traffic.Of(kLabels[label].label).bytes;
  }

  std::array<std::int64_t, kLabels.size()> before_{}, sent_{};
};

}  // namespace sae::train
