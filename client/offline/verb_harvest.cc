// `harvest`: activations of a language model, from text into an activation store.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <csignal>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "client/offline/progress.h"
#include "client/offline/verb.h"
#include "sae/base/hash.h"
#include "sae/base/signals.h"
#include "sae/lm/harvest.h"

namespace sae::client {
namespace {

using Json = nlohmann::ordered_json;

struct HarvestFlags {
  std::string model, text, field = "text", pack = "mask", dtype = "bf16", compute = "f32",
                           order = "shuffled", drop;
  int threads = 0;
  /// As text, so that 5e5 is a number too.
  double tokens = 0;
  lm::HarvestOptions options;
};

absl::Status Resolve(HarvestFlags& flags) {
  lm::HarvestOptions& o = flags.options;
  SAE_ASSIGN_OR_RETURN(o.packing, lm::ParsePacking(flags.pack));
  SAE_ASSIGN_OR_RETURN(o.compute, lm::ParseCompute(flags.compute));
  SAE_ASSIGN_OR_RETURN(o.dtype, data::ParseStoreDType(flags.dtype));
  if (!flags.drop.empty()) {
    SAE_ASSIGN_OR_RETURN(o.drop_norm_above, lm::ParseNormLimit(flags.drop));
  }
  if (!(flags.tokens >= 0 && flags.tokens < 1e15)) {
    return absl::InvalidArgumentError(
        absl::StrCat("--tokens ", flags.tokens, " must be a positive number"));
  }
  o.tokens = static_cast<std::int64_t>(flags.tokens);
  o.shuffled = flags.order == "shuffled";
  if (flags.threads < 0)
    return absl::InvalidArgumentError(
        absl::StrCat("--threads ", flags.threads, " must be positive"));
  if (flags.threads == 0)
    flags.threads = static_cast<int>(std::max(1U, std::thread::hardware_concurrency()));
  return absl::OkStatus();
}

/// "1.2 GB", "310 MB".
std::string Size(std::int64_t bytes) {
  char text[32];
  const double mb = static_cast<double>(bytes) / 1e6;
  std::snprintf(text, sizeof(text), mb < 1000 ? "%.0f MB" : "%.1f GB", mb < 1000 ? mb : mb / 1000);
  return text;
}

std::int64_t StoreBytes(const data::StoreManifest& m) {
  std::int64_t bytes = m.texts.bytes;
  for (const auto& shard : m.shards) bytes += shard.bytes;
  for (const auto& shard : m.heldout_shards) bytes += shard.bytes;
  return bytes;
}

void PrintJson(const lm::HarvestReport& r, const std::string& out) {
  Json j;
  j["store"] = out;
  j["rows"] = r.manifest.rows;
  j["heldout_rows"] = r.manifest.heldout_rows;
  j["d"] = r.manifest.d;
  j["target_d"] = r.manifest.target_d;
  j["bytes"] = StoreBytes(r.manifest);
  j["documents"] = r.documents;
  j["tokens"] = r.tokens;
  j["seconds"] = absl::ToDoubleSeconds(r.run_time);
  j["tokens_per_second"] =
      static_cast<double>(r.tokens) / std::max(1e-9, absl::ToDoubleSeconds(r.run_time));
  j["dropped"] = r.manifest.source.dropped;
  for (const double q : {0.01, 0.25, 0.5, 0.75, 0.99, 0.999})
    j["norm"]["quantiles"].push_back({q, r.norms.Quantile(q)});
  j["norm"]["smallest"] = r.norms.smallest();
  j["norm"]["largest"] = r.norms.largest();
  j["norm"]["top_share"] = r.top_share;
  j["warning"] = r.warning;
  std::printf("%s\n", j.dump().c_str());
}

void PrintTable(const lm::HarvestReport& r, const std::string& out) {
  const double seconds = absl::ToDoubleSeconds(r.run_time);
  std::printf("store        %s (%s)\n", out.c_str(), Size(StoreBytes(r.manifest)).c_str());
  std::printf("rows         %lld and %lld held out, of width %lld\n",
              static_cast<long long>(r.manifest.rows),
              static_cast<long long>(r.manifest.heldout_rows),
              static_cast<long long>(r.manifest.d));
  if (r.manifest.target_d > 0) {
    std::printf("targets      of width %lld, at %s\n", static_cast<long long>(r.manifest.target_d),
                r.manifest.source.target_hook.c_str());
  }
  std::printf("from         %lld tokens of %s documents in %.1f s, %.0f tokens/s\n",
              static_cast<long long>(r.tokens), r.manifest.source.notes.at("documents").c_str(),
              seconds, static_cast<double>(r.tokens) / std::max(1e-9, seconds));
  for (const auto& [reason, rows] : r.manifest.source.dropped) {
    std::printf("left out     %lld rows: %s\n", static_cast<long long>(rows), reason.c_str());
  }
  std::printf(
      "norms        smallest %.4g, 1%% %.4g, median %.4g, 99%% %.4g, 99.9%% %.4g, largest %.4g\n",
      r.norms.smallest(), r.norms.Quantile(0.01), r.norms.Quantile(0.5), r.norms.Quantile(0.99),
      r.norms.Quantile(0.999), r.norms.largest());
  std::printf("top 0.1%%     of rows hold %.2g%% of the sum of squares\n", 100 * r.top_share);
}

/// Progress of the three phases, a line each.
class PhaseLines {
 public:
  void Update(const std::string& phase, std::int64_t done, std::int64_t total) {
    if (phase != phase_) {
      line_.reset();
      phase_ = phase;
      const bool run = phase == "run";
      line_ = std::make_unique<ProgressLine>(run                ? "harvest"
                                             : phase == "count" ? "harvest: tokenizing"
                                                                : "harvest: writing",
                                             run                ? "tokens"
                                             : phase == "count" ? "counted"
                                                                : "rows");
    }
    line_->Update(done, total);
  }

 private:
  std::string phase_;
  std::unique_ptr<ProgressLine> line_;
};

/// Blocks that must run for a hook.
std::int64_t BlocksFor(const lm::Hook& hook) {
  return hook.point == lm::HookPoint::kEmbed ? 0 : hook.block + 1;
}

absl::Status Run(HarvestFlags& flags, const Invocation& invocation) {
  // Before any thread starts, so that all inherit the mask.
  SAE_ASSIGN_OR_RETURN(const auto signals, SignalWatcher::Create({SIGINT, SIGTERM}));
  SAE_RETURN_IF_ERROR(Resolve(flags));
  SAE_ASSIGN_OR_RETURN(const auto gguf, lm::GgufReader::Open(flags.model));
  SAE_ASSIGN_OR_RETURN(const lm::LlamaConfig config, lm::ReadLlamaConfig(*gguf));
  SAE_ASSIGN_OR_RETURN(const lm::Hook hook,
                       lm::ParseHook(flags.options.hook, static_cast<int>(config.blocks)));
  SAE_ASSIGN_OR_RETURN(const auto tokenizer, lm::Tokenizer::FromGguf(*gguf));
  SAE_ASSIGN_OR_RETURN(const auto corpus, lm::Corpus::Open(flags.text, flags.field));

  lm::LanguageModelOptions model_options;
  model_options.compute = flags.options.compute;
  model_options.threads = flags.threads;
  model_options.blocks = BlocksFor(hook);
  if (!flags.options.target_hook.empty()) {
    SAE_ASSIGN_OR_RETURN(const lm::Hook target,
                         lm::ParseHook(flags.options.target_hook, static_cast<int>(config.blocks)));
    model_options.blocks = std::max(model_options.blocks, BlocksFor(target));
  }
  SAE_ASSIGN_OR_RETURN(const auto model, lm::LoadLlama(*gguf, model_options));

  flags.options.model_hash = HashToText(Xxh3(gguf->file()));
  bool stopped = false;
  flags.options.stop = [&] {
    return stopped = stopped || signals->Wait(absl::ZeroDuration()).has_value();
  };
  PhaseLines lines;
  flags.options.progress = [&](const std::string& phase, std::int64_t done, std::int64_t total) {
    lines.Update(phase, done, total);
  };
  const auto report = lm::Harvest(*model, *tokenizer, *corpus, flags.options);
  lines = PhaseLines();
  if (!report.ok()) return report.status();
  if (!report->warning.empty())
    std::fprintf(stderr, "saeloom: harvest: warning: %s\n", report->warning.c_str());
  if (invocation.output == "json") {
    PrintJson(*report, flags.options.out);
  } else {
    PrintTable(*report, flags.options.out);
  }
  return absl::OkStatus();
}

constexpr char kFooter[] =
    "Examples:\n"
    "  saeloom harvest --model SmolLM2.gguf --text corpus.jsonl --hook blocks.8.hook_resid_post "
    "--out store\n"
    "  saeloom harvest --model SmolLM2.gguf --text corpus.jsonl --hook "
    "blocks.8.ln2.hook_normalized --target-hook blocks.8.hook_mlp_out --out mlp8\n"
    "  saeloom harvest --model SmolLM2.gguf --text book.txt --hook blocks.4.hook_mlp_out --tokens "
    "5e5 --seed 1 --out sample\n"
    "\n"
    "A stopped harvest (Ctrl-C) leaves nothing at --out.";

}  // namespace

void AddHarvest(CLI::App& app, Invocation& invocation) {
  CLI::App* verb = app.add_subcommand(
      "harvest", "run a language model over text and store the activations at a hook");
  auto flags = std::make_shared<HarvestFlags>();
  lm::HarvestOptions& o = flags->options;
  verb->add_option("--model", flags->model, "GGUF file of a Llama-family model")->required();
  verb->add_option("--text", flags->text,
                   "plain text with blank lines between documents, or JSON lines")
      ->required();
  verb->add_option(
          "--hook", o.hook,
          "where to take activations, as blocks.8.hook_resid_post (`saeloom lm info` lists them)")
      ->required();
  verb->add_option("--target-hook", o.target_hook,
                   "where to take what a transcoder is to predict from the same rows: with --hook "
                   "blocks.8.ln2.hook_normalized it is blocks.8.hook_mlp_out");
  verb->add_option("--out", o.out, "the store's directory; must not be there")->required();
  verb->add_option("--context", o.context, "tokens that attention can span")->capture_default_str();
  verb->add_option("--pack", flags->pack,
                   "mask: documents do not see each other; concat: they do; none: a context each")
      ->check(CLI::IsMember({"mask", "concat", "none"}))
      ->capture_default_str();
  verb->add_option("--tokens", flags->tokens,
                   "tokens to run, of documents sampled by the seed (default: all)");
  verb->add_option("--dtype", flags->dtype, "of the stored rows")
      ->check(CLI::IsMember({"bf16", "f32", "f16"}))
      ->capture_default_str();
  verb->add_option("--compute", flags->compute,
                   "of the model's linear layers; bf16 is faster and moves rows by about 0.6%")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  verb->add_option("--order", flags->order, "of rows in the store")
      ->check(CLI::IsMember({"shuffled", "sequential"}))
      ->capture_default_str();
  verb->add_flag("--keep-first", o.keep_first,
                 "keep the first token of each attention span, an attention sink of huge norm");
  verb->add_option("--drop-norm-above", flags->drop,
                   "leave out rows of larger norm: 10x the median, or a norm as 300");
  verb->add_option("--heldout", o.heldout, "share of documents held out for evaluation")
      ->capture_default_str();
  verb->add_option("--seed", o.seed, "of the sample, the shuffle and the held-out choice")
      ->capture_default_str();
  verb->add_option("--text-field", flags->field, "field of JSON lines that holds the text")
      ->capture_default_str();
  verb->add_option("--threads", flags->threads, "default: one a core");
  verb->footer(kFooter);
  verb->callback([flags, &invocation] { invocation.status = Run(*flags, invocation); });
}

}  // namespace sae::client
