#pragma once
// JSON as block-style YAML, for `-o yaml` and for the file of contexts. Strings that YAML could
// read as something else stand in quotes. Pure.

#include <string>

namespace sae::cli {

/// `json` must be valid JSON. Ends in a newline.
std::string YamlFromJson(const std::string& json);

}  // namespace sae::cli
