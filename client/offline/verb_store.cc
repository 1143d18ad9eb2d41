// `store create`, `store info`, `store verify`: activation stores (docs/formats/store.md).

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "client/offline/progress.h"
#include "client/offline/verb.h"
#include "sae/data/store_create.h"
#include "sae/data/store_reader.h"

namespace sae::client {
namespace {
using Json = nlohmann::ordered_json;
using data::ActivationStore;
using data::StoreManifest;

struct CreateFlags {
  std::string from, tensor, targets, synthetic, out, dtype = "bf16", order = "shuffled";
  double heldout = 0.02;
  std::uint64_t seed = 0;
  std::int64_t memory_mib = 256, shard_mib = 1024;
};

std::int64_t TotalBytes(const StoreManifest& m) {
  std::int64_t bytes = m.texts.bytes;
  for (const auto* list : {&m.shards, &m.heldout_shards, &m.extras}) {
    for (const auto& shard : *list) bytes += shard.bytes;
  }
  return bytes;
}

double Norm(const std::vector<double>& values) {
  double squares = 0;
  for (const double v : values) squares += v * v;
  return std::sqrt(squares);
}

/// The manifest without the mean's d values, and what a reader computes from it.
Json Summary(const ActivationStore& store) {
  const StoreManifest& m = store.manifest();
  Json j = Json::parse(ManifestToJson(m));
  j.erase("mean");
  j.erase("target_mean");
  j["mean_norm"] = Norm(m.mean);
  if (m.target_d > 0) j["target_mean_norm"] = Norm(m.target_mean);
  j["directory"] = store.directory();
  j["bytes"] = TotalBytes(m);
  j["manifest_hash"] = store.manifest_hash();
  return j;
}

void PrintSource(const StoreManifest& m) {
  const data::StoreOrigin& s = m.source;
  std::printf("source      %s", s.kind.c_str());
  for (const std::string* part : {&s.model, &s.hook}) {
    if (!part->empty()) std::printf(" %s", part->c_str());
  }
  if (s.context > 0) std::printf(", context %lld", static_cast<long long>(s.context));
  if (!s.packing.empty()) std::printf(", packing %s", s.packing.c_str());
  if (!s.compute.empty()) std::printf(", computed in %s", s.compute.c_str());
  std::printf("\n");
  for (const auto& [reason, rows] : s.dropped)
    std::printf("dropped     %lld rows: %s\n", static_cast<long long>(rows), reason.c_str());
  for (const auto& [key, value] : s.notes) std::printf("%-11s %s\n", key.c_str(), value.c_str());
}

void PrintStore(const ActivationStore& store) {
  const StoreManifest& m = store.manifest();
  const Json j = Summary(store);
  std::printf("store       %s\n", store.directory().c_str());
  std::printf("rows        %lld of %lld x %s, %s, seed %llu\n", static_cast<long long>(m.rows),
              static_cast<long long>(m.d), data::StoreDTypeName(m.dtype).c_str(), m.order.c_str(),
              static_cast<unsigned long long>(m.seed));
  std::printf("held out    %lld rows, by %s, fraction %g\n", static_cast<long long>(m.heldout_rows),
              m.heldout_by.c_str(), m.heldout_fraction);
  std::printf("size        %.1f MiB in %zu shards and %zu of held-out rows\n",
              static_cast<double>(TotalBytes(m)) / 1048576.0, m.shards.size(),
              m.heldout_shards.size());
  if (m.target_d > 0) {
    std::printf("targets     %lld x %s of the same rows%s\n", static_cast<long long>(m.target_d),
                data::StoreDTypeName(m.dtype).c_str(),
                m.source.target_hook.empty() ? "" : (", " + m.source.target_hook).c_str());
  }
  std::printf(
      "beside      %s%s%s\n", m.has_tokens ? "token ids and positions" : "no token ids",
      m.has_documents ? ", documents" : "",
      m.texts.file.empty() ? ", no texts" : absl::StrCat(", ", m.texts.rows, " texts").c_str());
  PrintSource(m);
  std::printf("statistics  mean squared norm %.6g, norm of the mean %.6g\n", m.mean_squared_norm,
              j["mean_norm"].get<double>());
  if (m.target_d > 0) {
    std::printf("of targets  mean squared norm %.6g, norm of the mean %.6g\n",
                m.target_mean_squared_norm, j["target_mean_norm"].get<double>());
  }
  std::printf("manifest    %s\n", store.manifest_hash().c_str());
}

absl::Status ShowStore(const std::string& directory, bool as_json) {
  SAE_ASSIGN_OR_RETURN(const auto store, ActivationStore::Open(directory));
  if (as_json) {
    std::printf("%s\n", Summary(*store).dump().c_str());
  } else {
    PrintStore(*store);
  }
  return absl::OkStatus();
}

absl::Status Verify(const std::string& directory, bool as_json) {
  SAE_ASSIGN_OR_RETURN(const auto store, ActivationStore::Open(directory));
  {
    ProgressLine line("verify", "MiB", std::int64_t{1} << 20);
    SAE_RETURN_IF_ERROR(
        store->VerifyAll([&](std::int64_t done, std::int64_t total) { line.Update(done, total); }));
  }
  const StoreManifest& m = store->manifest();
  if (as_json) {
    std::printf("%s\n", Json{{"directory", directory},
                             {"ok", true},
                             {"rows", m.rows},
                             {"heldout_rows", m.heldout_rows},
                             {"bytes", TotalBytes(m)},
                             {"manifest_hash", store->manifest_hash()}}
                            .dump()
                            .c_str());
  } else {
    std::printf(
        "ok: %lld rows, %lld held-out rows, every hash, value and statistic as the manifest says\n",
        static_cast<long long>(m.rows), static_cast<long long>(m.heldout_rows));
  }
  return absl::OkStatus();
}

absl::Status Create(const CreateFlags& flags, bool as_json) {
  if (flags.from.empty() == flags.synthetic.empty()) {
    return absl::InvalidArgumentError("give one of --from FILE and --synthetic SPEC");
  }
  data::StoreWriterOptions writer;
  writer.directory = flags.out;
  SAE_ASSIGN_OR_RETURN(writer.dtype, data::ParseStoreDType(flags.dtype));
  writer.seed = flags.seed;
  writer.heldout_fraction = flags.heldout;
  writer.shuffled = flags.order == "shuffled";
  writer.memory_bytes = flags.memory_mib << 20;
  writer.shard_bytes = flags.shard_mib << 20;
  {
    ProgressLine read("read", "rows"), write("write", "rows");
    writer.progress = [&](std::int64_t done, std::int64_t total) { write.Update(done, total); };
    if (!flags.synthetic.empty()) {
      SAE_ASSIGN_OR_RETURN(const data::SyntheticSpec spec,
                           data::ParseSyntheticSpec(flags.synthetic));
      SAE_RETURN_IF_ERROR(data::CreateSyntheticStore(spec, std::move(writer)).status());
    } else {
      data::ImportOptions import{flags.from, flags.tensor, flags.targets, std::move(writer),
                                 nullptr};
      import.progress = [&](std::int64_t done, std::int64_t total) { read.Update(done, total);
    };
    SAE_RETURN_IF_ERROR(data::ImportStore(std::move(import)).status());
  }
}
return ShowStore(flags.out, as_json);
}  // namespace

void AddCreate(CLI::App& store, Invocation& invocation) {
  auto flags = std::make_shared<CreateFlags>();
  CLI::App* verb = store.add_subcommand(
      "create", "make a store of activations from a file, or of synthetic ones");
  verb->add_option("--from", flags->from,
                   "X.npy, or X.safetensors: a matrix [rows, d] or [contexts, tokens, d]");
  verb->add_option("--tensor", flags->tensor,
                   "which tensor of a safetensors file (default: activations, or the only matrix)");
  verb->add_option("--targets", flags->targets,
                   "which tensor of a safetensors file a transcoder is to predict (default: none)");
  verb->add_option("--synthetic", flags->synthetic,
                   "rows with known features: d=64,features=256,rows=50000,seed=0 and p_max, "
                   "p_min, zipf, mu, sigma, bias_norm; or preset=toy_a, toy_b, absorption, "
                   "synthsaebench_16k, and changes to it");
  verb->add_option("--out", flags->out, "the store's directory; must not be there yet")->required();
  verb->add_option("--heldout", flags->heldout,
                   "fraction of documents (else rows) kept out of training [0.02]");
  verb->add_option("--seed", flags->seed, "of the shuffle and of the held-out choice [0]");
  verb->add_option("--dtype", flags->dtype, "bf16, f16 or f32 [bf16]")
      ->check(CLI::IsMember({"bf16", "f16", "f32"}));
  verb->add_option("--order", flags->order, "shuffled or sequential [shuffled]")
      ->check(CLI::IsMember({"shuffled", "sequential"}));
  verb->add_option("--memory", flags->memory_mib, "MiB for the shuffle [256]")
      ->check(CLI::PositiveNumber);
  verb->add_option("--shard", flags->shard_mib, "MiB a shard [1024]")->check(CLI::PositiveNumber);
  verb->footer(
      "Examples:\n  saeloom store create --from acts.npy --out runs/acts --heldout 0.05\n"
      "  saeloom store create --from cache.safetensors --tensor resid_8 --dtype f32 --out "
      "runs/resid8\n"
      "  saeloom store create --synthetic d=64,features=256,rows=50000,seed=0 --out runs/toy");
  verb->callback(
      [flags, &invocation] { invocation.status = Create(*flags, invocation.output == "json"); });
}

void AddWithDirectory(CLI::App& store, Invocation& invocation, const char* name, const char* help,
                      const char* footer, absl::Status (*run)(const std::string&, bool)) {
  auto directory = std::make_shared<std::string>();
  CLI::App* verb = store.add_subcommand(name, help);
  verb->add_option("DIR", *directory, "an activation store")->required();
  verb->footer(footer);
  verb->callback([directory, run, &invocation] {
    invocation.status = run(*directory, invocation.output == "json");
  });
}

}  // namespace sae::client

void AddStore(CLI::App& app, Invocation& invocation) {
  CLI::App* store = app.add_subcommand("store", "activation stores: create, info, verify");
  store->require_subcommand(1);
  store->footer(
      "Examples:\n  saeloom store info runs/demo/store\n  saeloom store verify runs/demo/store");
  AddCreate(*store, invocation);
  AddWithDirectory(*store, invocation, "info", "what is in a store",
                   "Examples:\n  saeloom store info runs/demo/store\n  saeloom store info "
                   "runs/demo/store -o json",
                   ShowStore);
  AddWithDirectory(*store, invocation, "verify", "read everything and compare it with the manifest",
                   "Example:\n  saeloom store verify runs/demo/store", Verify);
}

}  // namespace sae::client
