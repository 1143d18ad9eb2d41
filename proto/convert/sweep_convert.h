#pragma once
// Between the API's messages and the structs of sae/config. Pure functions. Conversion from proto
// does not judge values (config::Validate does) but refuses what cannot be represented, with the
// field's path.

#include "sae/base/status.h"
#include "sae/config/sweep_spec.h"
#include "saeloom/v1/sweep.pb.h"

namespace sae {

[[nodiscard]] absl::StatusOr<config::TrialConfig> FromProto(const saeloom::v1::TrialSpec& proto);
saeloom::v1::TrialSpec ToProto(const config::TrialConfig& config);
[[nodiscard]] absl::StatusOr<config::SweepSpec> FromProto(const saeloom::v1::SweepSpec& proto);
saeloom::v1::SweepSpec ToProto(const config::SweepSpec& spec);

/// A resource name's last part: "projects/default/sweeps/S/trials/T" -> "T"; a bare name is itself.
std::string BareName(const std::string& name);
std::string SweepName(const std::string& sweep);
std::string TrialName(const std::string& sweep, const std::string& trial);

}  // namespace sae
