#include "client/cli/yaml_text.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <set>

namespace sae::cli {
namespace {
using json = nlohmann::ordered_json;

std::string Dump(const json& j) { return j.dump(-1, ' ', false, json::error_handler_t::replace); }

/// Letters, digits and a few marks, starting with a letter or '/': no reader takes that for a
/// number, a date, a truth value or a mark of YAML.
bool IsPlain(const std::string& text) {
  static const std::set<std::string> words = {"true", "false", "null", "yes", "no",
                                              "on",   "off",   "y",    "n"};
  if (text.empty() || !(std::isalpha(static_cast<unsigned char>(text[0])) || text[0] == '/'))
    return false;
  std::string lower;
  for (const char c : text) lower += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  if (words.contains(lower)) return false;
  return std::all_of(text.begin(), text.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.' || c == '/';
  });
}

std::string Scalar(const json& j) {
  if (!j.is_string()) return Dump(j);
  const std::string& text = j.get_ref<const std::string&>();
  return IsPlain(text) ? text : Dump(j);
}

bool IsLeaf(const json& j) { return !j.is_structured() || j.empty(); }

void Write(const json& j, const std::string& indent, std::string& out);

/// What stands after "key:" or "-": on the same line when it is a leaf.
void WriteAfter(const json& j, const std::string& indent, std::string& out) {
  if (IsLeaf(j)) {
    out += " " + Scalar(j) + "\n";
  } else {
    out += "\n";
    Write(j, indent, out);
  }
}

void Write(const json& j, const std::string& indent, std::string& out) {
  if (IsLeaf(j)) {
    out += indent + Scalar(j) + "\n";
  } else if (j.is_object()) {
    for (const auto& [key, value] : j.items()) {
      out += indent + Scalar(json(key)) + ":";
      WriteAfter(value, indent + "  ", out);
    }
  } else {
    for (const json& value : j) {
      if (IsLeaf(value)) {
        out += indent + "- " + Scalar(value) + "\n";
        continue;
      }
      std::string inner;
      Write(value, indent + "  ", inner);
      inner[indent.size()] = '-';  // in place of the first of its two blanks
      out += inner;
    }
  }
}

}  // namespace

std::string YamlFromJson(const std::string& text) {
  std::string out;
  Write(json::parse(text, nullptr, false), "", out);
  return out;
}

}  // namespace sae::cli
