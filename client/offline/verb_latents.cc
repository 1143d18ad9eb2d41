// `latents`: for a few latents of an SAE, the texts of a store that excite them most.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "client/offline/progress.h"
#include "client/offline/verb.h"
#include "sae/checkpoint/load_sae.h"
#include "sae/data/latent_examples.h"
#include "sae/model/sae.h"

namespace sae::client {
namespace {
using Json = nlohmann::ordered_json;

struct LatentsFlags {
  std::string sae, store;
  std::vector<std::int64_t> latents;
  std::int64_t count = 5, top = 5, rows = 200'000;
  bool heldout = false;
};

/// One line for a terminal: line breaks become a visible sign, other control characters a blank.
std::string OneLine(const std::string& text) {
  std::string out;
  for (const char c : text) {
    if (c == '\n') {
      out += "\xE2\x8F\x8E";  // the return symbol
    } else {
      out += (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) ? ' ' : c;
    }
  }
  return out;
}

Json ToJson(const data::LatentReports& reports, bool heldout) {
  Json latents = Json::array();
  for (const data::LatentReport& r : reports.latents) {
    Json examples = Json::array();
    for (const data::LatentExample& e : r.examples) {
      Json active = Json::array();
      for (const data::ActiveToken& a : e.active)
        active.push_back({{"position", a.position}, {"value", a.value}});
      examples.push_back({{"value", e.value},
                          {"row", e.row},
                          {"document", e.document},
                          {"position", e.position},
                          {"token_id", e.token_id},
                          {"before", e.before},
                          {"peak", e.peak},
                          {"after", e.after},
                          {"active", active}});
    }
    latents.push_back({{"latent", r.latent},
                       {"density", r.density},
                       {"fired", r.fired},
                       {"mean_when_active", r.mean_when_active},
                       {"max", r.max},
                       {"examples", examples}});
  }
  return {
      {"rows", reports.rows}, {"split", heldout ? "heldout" : "training"}, {"latents", latents}};
}

void Print(const data::LatentReports& reports) {
  for (const data::LatentReport& r : reports.latents) {
    std::printf("latent %lld: fires on %.3g%% of %lld rows, mean %.3g when active, max %.3g\n",
                static_cast<long long>(r.latent), 100 * r.density,
                static_cast<long long>(reports.rows), r.mean_when_active,
                static_cast<double>(r.max));
    for (const data::LatentExample& e : r.examples) {
      std::printf("  %9.3g  ", static_cast<double>(e.value));
      if (e.peak.empty()) {
        std::printf("row %lld", static_cast<long long>(e.row));
        if (e.document >= 0) std::printf(", document %d", e.document);
        if (e.position >= 0) std::printf(", position %d, token %d", e.position, e.token_id);
        std::printf("\n");
      } else {
        // A token often begins with its blank: brackets stand around the word.
        const std::size_t blank = e.peak.size() > 1 && e.peak[0] == ' ' ? 1 : 0;
        std::printf("%s%s[[%s]]%s\n", OneLine(e.before).c_str(), e.peak.substr(0, blank).c_str(),
                    OneLine(e.peak.substr(blank)).c_str(), OneLine(e.after).c_str());
      }
    }
    std::printf("\n");
  }
}

absl::Status Latents(const LatentsFlags& flags, bool as_json) {
  SAE_ASSIGN_OR_RETURN(const model::Sae sae, checkpoint::LoadSae(RealEnv(), flags.sae));
  SAE_ASSIGN_OR_RETURN(const auto store, data::ActivationStore::Open(flags.store));
  if (store->d() != sae.d) {
    return absl::InvalidArgumentError(absl::StrCat("the store ", flags.store, " has width ",
                                                   store->d(), ", the SAE ", flags.sae, " has ",
                                                   sae.d));
  }
  ThreadPool pool(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  SAE_ASSIGN_OR_RETURN(const auto runner, model::SaeRunner::Create(sae, pool));
  const auto encode = [&](std::span<const float> rows, const data::EmitCode& emit) -> absl::Status {
    SAE_ASSIGN_OR_RETURN(const auto* codes, runner->Encode(rows));
    const auto count = static_cast<std::int64_t>(rows.size()) / sae.d;
    for (std::int64_t b = 0; b < count; ++b) {
      for (auto e = codes->indptr[static_cast<std::size_t>(b)];
           e < codes->indptr[static_cast<std::size_t>(b) + 1]; ++e) {
        emit(b, codes->ids[static_cast<std::size_t>(e)],
             codes->values[static_cast<std::size_t>(e)]);
      }
    }
    return absl::OkStatus();
  };
  data::LatentExampleOptions options;
  options.latents = flags.latents;
  options.count = flags.count;
  options.top = flags.top;
  options.max_rows = flags.rows;
  options.split = flags.heldout ? data::Split::kHeldout : data::Split::kTraining;
  absl::StatusOr<data::LatentReports> reports;
  {
    ProgressLine line("latents", "rows");
    reports = data::FindLatentExamples(
        *store, sae.latents, options, encode,
        [&](std::int64_t done, std::int64_t total) { line.Update(done, total); });
  }
  SAE_RETURN_IF_ERROR(reports.status());
  if (as_json) {
    std::printf("%s\n", ToJson(*reports, flags.heldout)
                            .dump(-1, ' ', false, Json::error_handler_t::replace)
                            .c_str());
  } else {
    Print(*reports);
  }
  return absl::OkStatus();
}

}  // namespace

void AddLatents(CLI::App& app, Invocation& invocation) {
  auto flags = std::make_shared<LatentsFlags>();
  CLI::App* verb = app.add_subcommand("latents", "the texts that excite an SAE's latents most");
  verb->add_option("--sae", flags->sae, "a checkpoint of any architecture, or a SAELens folder")
      ->required();
  verb->add_option("--store", flags->store,
                   "an activation store with texts (as harvest makes them)")
      ->required();
  verb->add_option("--latents", flags->latents, "which latents: 1,2,3")->delimiter(',');
  verb->add_option("--count", flags->count,
                   "without --latents: how many of middling density to show [5]")
      ->check(CLI::PositiveNumber);
  verb->add_option("--top", flags->top, "examples a latent, each from another document [5]")
      ->check(CLI::PositiveNumber);
  verb->add_option("--rows", flags->rows, "look at the first so many rows, 0 = all [200000]")
      ->check(CLI::NonNegativeNumber);
  verb->add_flag("--heldout", flags->heldout, "look at held-out rows");
  verb->footer(
      "The token of the peak stands in [[ ]]. Latents of middling density: of those that fired on "
      "at least 10 rows, in\n"
      "order of density, evenly spaced between the quartiles.\n"
      "Examples:\n  saeloom latents --sae runs/demo/sae --store runs/demo/store\n"
      "  saeloom latents --sae runs/demo/sae --store runs/demo/store --latents 17,42 --top 10 -o "
      "json\n"
      "  saeloom latents --sae runs/demo/0003/checkpoints --store runs/demo/store --heldout");
  verb->callback(
      [flags, &invocation] { invocation.status = Latents(*flags, invocation.output == "json"); });
}

}  // namespace sae::client
