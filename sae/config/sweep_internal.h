#pragma once
// What the parts of sweep_spec.h share: collecting problems, JSON scalars as text, the keys that a
// sweep's file may have. For sweep_*.cc alone. Pure.

#include <cstdint>
#include <map>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <vector>

#include "sae/base/status.h"
#include "sae/config/sweep_spec.h"

namespace sae::config::internal {
using json = nlohmann::ordered_json;  // axes keep the order in which the user wrote them

inline constexpr std::int64_t kMaxPoints = 1'000'000;
inline constexpr std::size_t kMaxText = 4096;  ///< bytes of any text of a sweep
inline constexpr int kMaxDepth = 32;           ///< of a sweep's JSON

/// Collects problems; all are reported in one Status.
class Problems {
 public:
  template <class... Parts>
  void Add(const Parts&... parts) {
    texts_.push_back(absl::StrCat(parts...));
  }
  /// What is well-formed but not built: alone, it makes the Status UNIMPLEMENTED.
  template <class... Parts>
  void AddUnimplemented(const Parts&... parts) {
    unimplemented_.push_back(absl::StrCat(parts...));
  }
  bool empty() const { return texts_.empty() && unimplemented_.empty(); }
  /// The first 20, and how many more there are.
  absl::Status ToStatus() const;

 private:
  std::vector<std::string> texts_;
  std::vector<std::string> unimplemented_;
};

/// ", did you mean X?", or "".
std::string DidYouMean(const std::string& word, const std::vector<std::string>& known);

/// As text for people: at most 100 bytes of it.
std::string Brief(const json& j);
std::string Brief(const std::string& text);
/// UTF-8 without control characters: what logs, tables and JSON keep as it is.
bool IsCleanText(const std::string& text);
/// Whole numbers without a point, so that `8`, `8.0` and `8e0` are one value.
std::string CanonicalScalar(const json& j);
std::string NumberText(double x);

/// Paths of all fields of TrialConfig.
const std::vector<std::string>& TrialPaths();

/// Places of a sweep's file that are maps with fixed keys, and these keys: "" = the file itself,
/// "search.asha", "parameters.*" = an axis, "parameters.*.uniform" = any range, "retry[]".
const std::map<std::string, std::vector<std::string>>& KnownKeys();

/// What ParseSweepSpec reads of `parameters`: a map, or a list of maps, from paths to axes.
std::vector<ParameterSet> ParseParameters(const json& j, Problems& problems);
/// Reports keys of `j` that are not among those of `place`; false when it is not a map.
bool CheckKeys(const json& j, const std::string& where, const std::string& place,
               Problems& problems);
/// Reads one key when it is there; a wrong type is a problem.
void ReadString(const json& parent, const char* key, const std::string& where, std::string& out,
                Problems& problems);
void ReadNumber(const json& parent, const char* key, const std::string& where, double& out,
                Problems& problems);
void ReadInteger(const json& parent, const char* key, const std::string& where, std::int64_t& out,
                 Problems& problems);

/// Step of a grid or of a quantised range; 0 = none.
double StepOf(const Parameter& p);
/// Values that an axis counts; 0 for a range without a step. May be larger than any integer.
double AxisCount(const Parameter& p);
/// Points of a grid as if no `when` left any out, or those to draw.
double TotalPoints(const SweepSpec& spec);
/// Whether all of `when` hold for the axes assigned before it.
bool Applies(const Parameter& p,
             const std::vector<std::pair<std::string, std::string>>& assignments);

/// Axes and their ranges; more than kMaxPoints.
void CheckParameters(const SweepSpec& spec, Problems& problems);
/// `search` and what it needs of the rest.
void CheckSearch(const SweepSpec& spec, Problems& problems);
/// Where, when and how often trials run, and what stays of them.
void CheckScheduling(const SweepSpec& spec, Problems& problems);

}  // namespace sae::config::internal
