#include "server/service/lookup.h"

#include <memory>

#include <google/protobuf/io/coded_stream.h>
#include <google/protobuf/io/zero_copy_stream_impl_lite.h>

#include "sae/base/hash.h"
#include "server/core/no_such.h"
#include "server/service/convert.h"

namespace sae::server {

absl::StatusOr<const SweepRecord*> FindSweep(const Core& core, const std::string& name,
                                             const std::string& field) {
  SAE_ASSIGN_OR_RETURN(const std::string bare, ParseSweepName(name, field));
  const SweepRecord* sweep = core.state().sweep(bare);
  if (sweep == nullptr) return NoSweep(bare);
  return sweep;
}

absl::StatusOr<FoundTrial> FindTrial(const Core& core, const std::string& name,
                                     const std::string& field) {
  SAE_ASSIGN_OR_RETURN(const auto names, ParseTrialName(name, field));
  SAE_ASSIGN_OR_RETURN(const SweepRecord* sweep, FindSweep(core, names.first, field));
  const TrialRecord* trial = sweep->trial(names.second);
  if (trial == nullptr) {
    return absl::NotFoundError(absl::StrCat("no trial \"", names.second, "\" in sweep \"",
                                            sweep->name, "\", which has ", sweep->trials.size()));
  }
  return FoundTrial{sweep, trial};
}

absl::Status CheckParent(const std::string& parent) {
  if (parent.empty() || parent == "projects/default") return absl::OkStatus();
  return absl::NotFoundError(
      absl::StrCat("parent: \"", parent, "\", the only project is projects/default"));
}

absl::StatusOr<saeloom::v1::Trial> Describe(Core& core, const SweepRecord& sweep,
                                            const TrialRecord& trial) {
  SAE_ASSIGN_OR_RETURN(const Progress progress, core.ProgressOf(sweep, trial));
  return TrialToProto(sweep, trial, core.ReasonOf(sweep, trial), progress);
}

RequestKey KeyOf(const google::protobuf::Message& request) {
  const auto* field = request.GetDescriptor()->FindFieldByName("request_id");
  RequestKey key(request.GetReflection()->GetString(request, field));
  if (key.id.empty()) return key;
  const std::unique_ptr<google::protobuf::Message> body(request.New());
  body->CopyFrom(request);
  body->GetReflection()->ClearField(body.get(), field);
  std::string bytes;
  {
    google::protobuf::io::StringOutputStream stream(&bytes);
    google::protobuf::io::CodedOutputStream out(&stream);
    out.SetSerializationDeterministic(true);  // maps in the order of their keys
    body->SerializeToCodedStream(&out);
  }
  key.body = HashToText(Xxh3(bytes)).substr(5);
  return key;
}

}  // namespace sae::server
