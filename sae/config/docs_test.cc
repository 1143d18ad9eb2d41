// docs/config.md against the code: every field, in order, with its default; no others.

#include <fstream>
#include <sstream>

#include "absl/strings/str_format.h"
#include "absl/strings/str_split.h"
#include "absl/strings/strip.h"
#include <gtest/gtest.h>

#include "sae/config/run_config.h"

namespace sae::config {
namespace {

struct Row {
  std::string path, default_value, meaning;
};

/// Rows "| `path` | default | meaning |" of the section "## Fields".
std::vector<Row> DocumentedFields() {
  std::ifstream in(SAE_SOURCE_DIR "/docs/config.md");
  std::stringstream text;
  text << in.rdbuf();
  std::vector<Row> rows;
  bool in_fields = false;
  for (const auto& line : absl::StrSplit(text.str(), '\n')) {
    if (absl::StartsWith(line, "## ")) in_fields = line == "## Fields";
    if (!in_fields || !absl::StartsWith(line, "| `")) continue;
    // A bar inside a cell is written \|.
    std::vector<std::string> cells = absl::StrSplit(line, " | ");
    if (cells.size() != 3) {
      ADD_FAILURE() << "not three cells: " << line;
      continue;
    }
    const auto path = absl::StripSuffix(absl::StripPrefix(cells[0], "| `"), "`");
    rows.push_back({std::string(path), cells[1], cells[2]});
  }
  return rows;
}

std::string DefaultText(const FieldPointer& pointer) {
  return std::visit(
      [](auto* p) -> std::string {
        using T = std::remove_pointer_t<decltype(p)>;
        if constexpr (std::is_same_v<T, bool>) {
          return *p ? "true" : "false";
        } else if constexpr (std::is_same_v<T, std::string>) {
          return *p;
        } else if constexpr (std::is_same_v<T, double> || std::is_same_v<T, std::int64_t>) {
          return absl::StrFormat("%g", static_cast<double>(*p));
        } else {
          EXPECT_FALSE(p->has_value());
          return "auto";
        }
      },
      pointer);
}

TEST(ConfigDocs, EveryFieldIsThereInOrderWithItsDefault) {
  TrialConfig defaults;
  const std::vector<Field> fields = Fields(defaults);
  const std::vector<Row> rows = DocumentedFields();
  ASSERT_EQ(rows.size(), fields.size());
  for (std::size_t i = 0; i < rows.size(); ++i) {
    EXPECT_EQ(rows[i].path, fields[i].path);
    EXPECT_EQ(rows[i].default_value, DefaultText(fields[i].pointer)) << fields[i].path;
    EXPECT_GT(rows[i].meaning.size(), 4U) << fields[i].path;
  }
}

TEST(ConfigDocs, EveryArchitectureIsNamed) {
  for (const Row& row : DocumentedFields()) {
    if (row.path != "sae.architecture") continue;
    for (const std::string& name : Architectures())
      EXPECT_NE(row.meaning.find("`" + name + "`"), std::string::npos) << name;
  }
}

}  // namespace
}  // namespace sae::config
