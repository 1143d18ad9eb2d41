// `bench recovery`: do SAEs find features that are known to be there? (recovery.h)

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

#include "client/offline/progress.h"
#include "client/offline/recovery.h"
#include "client/offline/verb.h"

namespace sae::client {
namespace {
using Json = nlohmann::ordered_json;

struct RecoveryFlags {
  std::string file = "examples/recover.yaml", only;
  int threads = 0;  // 0 = all processors
};

/// Rows of cells in columns that line up, two spaces between them.
void PrintColumns(const std::vector<std::vector<std::string>>& rows, std::size_t left_columns) {
  std::vector<std::size_t> widths;
  for (const auto& row : rows) {
    widths.resize(std::max(widths.size(), row.size()));
    for (std::size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], row[i].size());
  }
  for (const auto& row : rows) {
    std::string text;
    for (std::size_t i = 0; i < row.size(); ++i) {
      const std::string pad(widths[i] - row[i].size(), ' ');
      text += (i > 0 ? "  " : "") + (i < left_columns ? row[i] + pad : pad + row[i]);
    }
    std::printf("%s\n", text.substr(0, text.find_last_not_of(' ') + 1).c_str());
  }
}

std::string Cell(const RecoveryMetrics& metrics, const std::string& name) {
  const auto found = metrics.find(name);
  if (found == metrics.end()) return "-";
  return absl::StrFormat(name == "dead" ? "%.0f" : name == "l0" ? "%.3f" : "%.4f", found->second);
}

std::string BandCell(const RecoveryCase& c, const std::string& name) {
  const auto found = c.expect.find(name);
  if (found == c.expect.end()) return "";
  return absl::StrFormat("%.4g..%.4g", found->second.low, found->second.high);
}

class Report {
 public:
  Report(const RecoverySpec& spec, const std::vector<RecoveryRun>& runs)
      : spec_(spec), runs_(runs) {
    std::map<std::string, RecoveryMetrics> all;
    for (std::size_t i = 0; i < runs.size(); ++i) {
      all[spec.cases[i].name] = runs[i].metrics;
      failures_.push_back(Failures(spec.cases[i], runs[i].metrics));
    }
    for (const Separation& s : spec.separations) gaps_.push_back(Failures(s, all));
  }

  std::int64_t failed() const {
    const auto bad = [](const auto& f) { return !f.empty(); };
    return std::count_if(failures_.begin(), failures_.end(), bad) +
           std::count_if(gaps_.begin(), gaps_.end(), bad);
  }

  void Print() const {
    std::vector<std::vector<std::string>> rows = {
        {"case", "method", "setting", "", "FVU", "L0", "gamma", "MCC", "dead", "verdict"}};
    for (std::size_t i = 0; i < runs_.size(); ++i) {
      const RecoveryCase& c = spec_.cases[i];
      std::vector<std::string> found = {c.name, c.method, c.setting, "found"};
      std::vector<std::string> bands = {"", "", "", "band"};
      for (const char* name : {"fvu", "l0", "gamma", "mcc", "dead"}) {
        found.push_back(Cell(runs_[i].metrics, name));
        bands.push_back(BandCell(c, name));
      }
      found.push_back(failures_[i].empty() ? "pass" : "FAIL");
      rows.push_back(found);
      rows.push_back(bands);
    }
    PrintColumns(rows, 4);
    std::printf("\n");
    for (std::size_t i = 0; i < gaps_.size(); ++i) {
      std::printf("%s  %s\n", gaps_[i].empty() ? "pass" : "FAIL",
                  spec_.separations[i].name.c_str());
      for (const std::string& gap : gaps_[i]) std::printf("      %s\n", gap.c_str());
    }
    for (std::size_t i = 0; i < failures_.size(); ++i) {
      for (const std::string& f : failures_[i])
        std::printf("FAIL  %s: %s\n", spec_.cases[i].name.c_str(), f.c_str());
    }
  }

  Json ToJson() const {
    Json cases = Json::array(), separations = Json::array();
    for (std::size_t i = 0; i < runs_.size(); ++i) {
      const RecoveryCase& c = spec_.cases[i];
      Json bands = Json::object();
      for (const auto& [name, band] : c.expect) bands[name] = {band.low, band.high};
      cases.push_back({{"name", c.name},
                       {"method", c.method},
                       {"setting", c.setting},
                       {"data", c.data},
                       {"steps", c.steps},
                       {"seconds", runs_[i].seconds},
                       {"metrics", runs_[i].metrics},
                       {"expect", bands},
                       {"failures", failures_[i]},
                       {"pass", failures_[i].empty()}});
    }
    for (std::size_t i = 0; i < gaps_.size(); ++i) {
      separations.push_back({{"name", spec_.separations[i].name},
                             {"metric", spec_.separations[i].metric},
                             {"failures", gaps_[i]},
                             {"pass", gaps_[i].empty()}});
    }
    return {{"cases", cases}, {"separations", separations}, {"pass", failed() == 0}};
  }

 private:
  const RecoverySpec& spec_;
  const std::vector<RecoveryRun>& runs_;
  std::vector<std::vector<std::string>> failures_, gaps_;
};

absl::Status Recovery(const RecoveryFlags& flags, bool as_json) {
  SAE_ASSIGN_OR_RETURN(RecoverySpec spec, LoadRecoverySpec(flags.file));
  if (!flags.only.empty()) {
    SAE_RETURN_IF_ERROR(KeepOnly(flags.only, &spec));
  }
  const int threads = flags.threads > 0
                          ? flags.threads
                          : static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  std::vector<RecoveryRun> runs;
  {
    ProgressLine line("recovery", "steps");
    runs = RunRecoveryCases(spec.cases, threads, [&](std::int64_t done, std::int64_t total) {
      line.Update(done, total);
    });
  }
  for (std::size_t i = 0; i < runs.size(); ++i) {
    if (!runs[i].status.ok())
      return Annotate(runs[i].status, absl::StrCat("case ", spec.cases[i].name));
  }
  const Report report(spec, runs);
  if (as_json) {
    std::printf("%s\n", report.ToJson().dump().c_str());
  } else {
    report.Print();
  }
  if (report.failed() == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(report.failed(), " of ",
                                          spec.cases.size() + spec.separations.size(),
                                          " cases and separations are outside their bands"));
}

}  // namespace

void AddBench(CLI::App& app, Invocation& invocation) {
  CLI::App* bench = app.add_subcommand("bench", "check and measure this program");
  bench->require_subcommand(1);
  bench->footer("Example:\n  saeloom bench recovery");
  auto flags = std::make_shared<RecoveryFlags>();
  CLI::App* verb = bench->add_subcommand(
      "recovery", "train on data with known features; compare what is found with the truth");
  verb->add_option("FILE", flags->file, "cases and their bands [examples/recover.yaml]");
  verb->add_option("--only", flags->only, "the case of this name, or those that begin with it");
  verb->add_option("--threads", flags->threads, "cases at a time [all processors]")
      ->check(CLI::NonNegativeNumber);
  verb->footer(
      "Prints what was found above the band it has to lie in. Exit code 0 only if all bands and "
      "separations hold.\n"
      "Examples:\n  saeloom bench recovery\n"
      "  saeloom bench recovery examples/recover.yaml --only a_ -o json");
  verb->callback(
      [flags, &invocation] { invocation.status = Recovery(*flags, invocation.output == "json"); });
}

}  // namespace sae::client
