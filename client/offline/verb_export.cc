// `export` and `import`: SAEs from and to other libraries' files.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "client/offline/verb.h"
#include "sae/checkpoint/load_sae.h"
#include "sae/checkpoint/saelens.h"
#include "sae/data/store_reader.h"

namespace sae::client {
namespace {

struct ExportFlags {
  std::string checkpoint, format = "saelens", out, store;
  std::int64_t golden = 0;
};

// x, f, x_hat of the first held-out rows: what a reader of the export checks itself against.
absl::Status WriteGolden(std::int64_t d, const std::string& store_folder, std::int64_t rows,
                         const std::string& folder) {
  if (store_folder.empty())
    return absl::InvalidArgumentError("--golden: this checkpoint names no store: give --store");
  SAE_ASSIGN_OR_RETURN(const auto store, data::ActivationStore::Open(store_folder));
  if (store->d() != d) {
    return absl::InvalidArgumentError(absl::StrCat("--golden: the store ", store_folder,
                                                   " has width ", store->d(), ", the SAE ", d));
  }
  const auto split =
      store->rows(data::Split::kHeldout) > 0 ? data::Split::kHeldout : data::Split::kTraining;
  std::vector<float> x(static_cast<std::size_t>(std::min(rows, store->rows(split)) * d));
  SAE_RETURN_IF_ERROR(store->ReadRows(split, 0, x));
  ThreadPool pool(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  return checkpoint::WriteSaeLensGolden(RealEnv(), folder, x, pool);
}

absl::Status Export(const ExportFlags& flags, bool as_json) {
  Env& env = RealEnv();
  SAE_ASSIGN_OR_RETURN(const checkpoint::LoadedCheckpoint loaded,
                       checkpoint::LoadCheckpointSae(env, flags.checkpoint));
  SAE_RETURN_IF_ERROR(checkpoint::WriteSaeLens(env, flags.out, loaded.sae));
  if (flags.golden > 0) {
    const std::string store = flags.store.empty() ? loaded.manifest.info.store : flags.store;
    const absl::Status status = WriteGolden(loaded.sae.d, store, flags.golden, flags.out);
    if (!status.ok()) {
      env.RemoveAll(flags.out).IgnoreError();
      return status;
    }
  }
  if (as_json) {
    std::printf("%s\n", nlohmann::json{{"out", flags.out},
                                       {"format", flags.format},
                                       {"checkpoint", loaded.folder},
                                       {"architecture", loaded.sae.architecture},
                                       {"latents", loaded.sae.latents},
                                       {"d", loaded.sae.d},
                                       {"step", loaded.manifest.info.step}}
                            .dump()
                            .c_str());
  } else {
    std::printf("exported %s (%s, %lld latents, width %lld) to %s, format SAELens v6\n",
                loaded.folder.c_str(), loaded.sae.architecture.c_str(),
                static_cast<long long>(loaded.sae.latents), static_cast<long long>(loaded.sae.d),
                flags.out.c_str());
  }
  return absl::OkStatus();
}

absl::Status Import(const std::string& in, const std::string& out, bool as_json) {
  Env& env = RealEnv();
  if (env.Exists(out)) {
    const auto names = env.List(out);
    if (!names.ok() || !names->empty()) {
      return absl::AlreadyExistsError(
          absl::StrCat(out, " is there already: choose another --out, or remove it"));
    }
  }
  SAE_ASSIGN_OR_RETURN(model::Sae sae, checkpoint::ReadSaeLens(env, in));
  const std::string architecture = sae.architecture;
  const auto latents = static_cast<long long>(sae.latents);
  SAE_ASSIGN_OR_RETURN(const std::string name, checkpoint::SaveSae(env, out, std::move(sae)));
  if (as_json) {
    std::printf("%s\n", nlohmann::json{{"checkpoint", out + "/" + name},
                                       {"architecture", architecture},
                                       {"latents", latents}}
                            .dump()
                            .c_str());
  } else {
    std::printf("imported %s (%s, %lld latents) as checkpoint %s/%s\n", in.c_str(),
                architecture.c_str(), latents, out.c_str(), name.c_str());
  }
  return absl::OkStatus();
}

}  // namespace

void AddExport(CLI::App& app, Invocation& invocation) {
  auto flags = std::make_shared<ExportFlags>();
  CLI::App* verb =
      app.add_subcommand("export", "write a checkpoint's SAE in another library's format");
  verb->add_option("--checkpoint", flags->checkpoint,
                   "a folder step-..., or one that holds some (the newest good one)")
      ->required();
  verb->add_option("--format", flags->format, "saelens (SAELens v6)")
      ->check(CLI::IsMember({"saelens"}));
  verb->add_option("--out", flags->out, "folder to make")->required();
  verb->add_option("--golden", flags->golden,
                   "also write golden.safetensors: x, f, x_hat of so many held-out rows, as the "
                   "export gives them")
      ->check(CLI::NonNegativeNumber);
  verb->add_option("--store", flags->store,
                   "store for --golden; default: the one it was trained on");
  verb->footer(
      "In raw units, with the mean parameters where train.ema is on. batchtopk and matryoshka "
      "leave as jumprelu with\n"
      "their inference threshold; transcoders as transcoder, skip_transcoder, "
      "jumprelu_(skip_)transcoder. Decoder rows\n"
      "get norm 1, the norm moving into the codes, but topk's (see docs/formats/saelens.md).\n"
      "Examples:\n  saeloom export --checkpoint runs/demo/0003/checkpoints --out my-sae\n"
      "  saeloom export --checkpoint step-000000000244 --out my-sae --golden 256\n"
      "  saeloom export --checkpoint runs/tc/0001/checkpoints --out my-transcoder --golden 256 "
      "--store runs/tc/store");
  verb->callback(
      [flags, &invocation] { invocation.status = Export(*flags, invocation.output == "json"); });
}

void AddImport(CLI::App& app, Invocation& invocation) {
  struct Flags {
    std::string in, out, format = "saelens";
  };
  auto flags = std::make_shared<Flags>();
  CLI::App* verb =
      app.add_subcommand("import", "make a checkpoint of an SAE in another library's format");
  verb->add_option("--format", flags->format, "saelens (SAELens v6)")
      ->check(CLI::IsMember({"saelens"}));
  verb->add_option("--in", flags->in, "folder with cfg.json and sae_weights.safetensors")
      ->required();
  verb->add_option("--out", flags->out, "folder to make; the checkpoint is in it")->required();
  verb->footer(
      "Architectures: standard, topk, jumprelu, gated, transcoder, skip_transcoder, "
      "jumprelu_transcoder,\n"
      "jumprelu_skip_transcoder, and training checkpoints of batchtopk and matryoshka_batchtopk "
      "(which become jumprelu).\n"
      "Example:\n  saeloom import --format saelens --in downloaded-sae --out imported");
  verb->callback([flags, &invocation] {
    invocation.status = Import(flags->in, flags->out, invocation.output == "json");
  });
}

}  // namespace sae::client
