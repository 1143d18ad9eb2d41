#include "sae/config/yaml.h"

#include <cmath>
#include <cstdint>
#include <nlohmann/json.hpp>
#include <sstream>
#include <vector>
#include <yaml-cpp/eventhandler.h>
#include <yaml-cpp/yaml.h>

#include "absl/strings/numbers.h"

namespace sae::config {
namespace {
using json = nlohmann::ordered_json;

constexpr int kMaxDepth = 32;
constexpr int kMaxNodes = 100'000;

std::string At(const std::string& file, const YAML::Mark& mark) {
  return mark.is_null() ? file : absl::StrCat(file, ":", mark.line + 1, ":", mark.column + 1);
}

/// YAML's core schema for plain scalars: null, true, false, numbers; all else is text.
json Scalar(const YAML::Node& node) {
  const std::string& text = node.Scalar();
  if (node.Tag() == "!") return text;  // quoted
  if (text == "null" || text == "~" || text.empty()) return nullptr;
  if (text == "true" || text == "True" || text == "TRUE") return true;
  if (text == "false" || text == "False" || text == "FALSE") return false;
  const bool numeric = text.find_first_not_of("+-.0123456789eE_") == std::string::npos &&
                       text.find_first_of("0123456789") != std::string::npos;
  if (!numeric) return text;
  if (text.find_first_of(".eE") == std::string::npos) {
    std::int64_t whole = 0;
    if (absl::SimpleAtoi(text, &whole)) return whole;
  }
  double number = 0;
  if (absl::SimpleAtod(text, &number) && std::isfinite(number)) return number;
  return text;
}

/// A first pass that keeps nothing and ends: yaml-cpp finds documents or nodes without end in some texts, and builds
/// them all. Throws YAML::Exception.
class Guard final : public YAML::EventHandler {
 public:
  void OnDocumentStart(const YAML::Mark&) override {}
  void OnDocumentEnd() override {}
  void OnNull(const YAML::Mark& mark, YAML::anchor_t) override { Count(mark); }
  void OnAlias(const YAML::Mark& mark, YAML::anchor_t) override { Count(mark); }
  void OnScalar(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                const std::string&) override {
    Count(mark);
  }
  void OnSequenceStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                       YAML::EmitterStyle::value) override {
    Count(mark);
  }
  void OnSequenceEnd() override {}
  void OnMapStart(const YAML::Mark& mark, const std::string&, YAML::anchor_t,
                  YAML::EmitterStyle::value) override {
    Count(mark);
  }
  void OnMapEnd() override {}

 private:
  void Count(const YAML::Mark& mark) {
    if (++nodes_ > kMaxNodes) throw YAML::Exception(mark, "too large");
  }
  int nodes_ = 0;
};

/// 0, 1, or 2 for more.
int CountDocuments(const std::string& yaml) {
  std::istringstream text(yaml);
  YAML::Parser parser(text);
  Guard guard;
  int documents = 0;
  while (documents < 2 && parser.HandleNextDocument(guard)) ++documents;
  return documents;
}

class Converter {
 public:
  explicit Converter(const std::string& file) : file_(file) {}

  absl::StatusOr<json> Convert(const YAML::Node& node, int depth) {
    if (depth > kMaxDepth || ++nodes_ > kMaxNodes) {
      return absl::InvalidArgumentError(
          absl::StrCat(At(file_, node.Mark()), ": nested too deeply, or too large"));
    }
    switch (node.Type()) {
      case YAML::NodeType::Scalar:
        return Scalar(node);
      case YAML::NodeType::Sequence:
        return Sequence(node, depth);
      case YAML::NodeType::Map:
        return Map(node, depth);
      default:
        return json(nullptr);
    }
  }

 private:
  absl::StatusOr<json> Sequence(const YAML::Node& node, int depth) {
    json out = json::array();
    for (const YAML::Node& item : node) {
      SAE_ASSIGN_OR_RETURN(json value, Convert(item, depth + 1));
      out.push_back(std::move(value));
    }
    return out;
  }

  absl::StatusOr<json> Map(const YAML::Node& node, int depth) {
    json out = json::object();
    for (const auto& item : node) {
      if (!item.first.IsScalar()) {
        return absl::InvalidArgumentError(
            absl::StrCat(At(file_, item.first.Mark()), ": a key is not plain text"));
      }
      const std::string key = item.first.Scalar();
      if (out.contains(key)) {
        return absl::InvalidArgumentError(
            absl::StrCat(At(file_, item.first.Mark()), ": key ", key, " is there twice"));
      }
      SAE_ASSIGN_OR_RETURN(json value, Convert(item.second, depth + 1));
      out[key] = std::move(value);
    }
    return out;
  }

  const std::string& file_;
  int nodes_ = 0;
};

}  // namespace

absl::StatusOr<std::string> YamlToJson(const std::string& yaml, const std::string& file) {
  try {
    const int documents = CountDocuments(yaml);
    if (documents > 1) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ": has more than one document: one a file"));
    }
    const YAML::Node root = documents == 0 ? YAML::Node() : YAML::Load(yaml);
    if (root.IsNull()) {
      return absl::InvalidArgumentError(
          absl::StrCat(file, ": is empty: it starts with apiVersion: saeloom/v1"));
    }
    SAE_ASSIGN_OR_RETURN(const json j, Converter(file).Convert(root, 0));
    return j.dump(-1, ' ', false, json::error_handler_t::replace);
  } catch (const YAML::Exception& e) {
    return absl::InvalidArgumentError(absl::StrCat(At(file, e.mark), ": ", e.msg));
  }
}

}  // namespace sae::config
