// `encode`: the codes of a store's rows, as CSR in one safetensors file.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>
#include <thread>

#include "client/offline/verb.h"
#include "sae/base/safetensors.h"
#include "sae/checkpoint/load_sae.h"
#include "sae/data/store_reader.h"

namespace sae::client {
namespace {

constexpr std::int64_t kBlockRows = 4096;

struct EncodeFlags {
  std::string sae, store, out, split = "training";
  std::int64_t rows = 0;
  bool dense = false, recon = false;
};

struct Encoded {
  std::vector<std::int64_t> indptr{0};
  std::vector<std::int32_t> indices;
  std::vector<float> values, dense, x_hat;
};

absl::Status EncodeAll(const EncodeFlags& flags, const model::Sae& sae,
                       const data::ActivationStore& store, data::Split split, std::int64_t rows,
                       Encoded& out) {
  ThreadPool pool(static_cast<int>(std::max(1U, std::thread::hardware_concurrency())));
  SAE_ASSIGN_OR_RETURN(const auto runner, model::SaeRunner::Create(sae, pool));
  std::vector<float> x, x_hat;
  if (flags.dense) out.dense.assign(static_cast<std::size_t>(rows * sae.latents), 0.0F);
  for (std::int64_t first = 0; first < rows; first += kBlockRows) {
    const std::int64_t count = std::min(kBlockRows, rows - first);
    x.resize(static_cast<std::size_t>(count * sae.d));
    SAE_RETURN_IF_ERROR(store.ReadRows(split, first, x));
    SAE_ASSIGN_OR_RETURN(const auto* codes, runner->Encode(x));
    const std::int64_t before = out.indptr.back();
    for (std::int64_t b = 0; b < count; ++b) {
      out.indptr.push_back(before + codes->indptr[static_cast<std::size_t>(b) + 1]);
      if (!flags.dense) continue;
      for (auto e = codes->indptr[static_cast<std::size_t>(b)];
           e < codes->indptr[static_cast<std::size_t>(b) + 1]; ++e) {
        const auto i = static_cast<std::size_t>(e);
        out.dense[static_cast<std::size_t>((first + b) * sae.latents + codes->ids[i])] =
            codes->values[i];
      }
    }
    out.indices.insert(out.indices.end(), codes->ids.begin(), codes->ids.begin() + codes->nnz());
    out.values.insert(out.values.end(), codes->values.begin(),
                      codes->values.begin() + codes->nnz());
    if (flags.recon) {
      x_hat.resize(static_cast<std::size_t>(count * sae.width()));
      SAE_RETURN_IF_ERROR(runner->Decode(*codes, x, x_hat));
      out.x_hat.insert(out.x_hat.end(), x_hat.begin(), x_hat.end());
    }
    std::fprintf(stderr, "\rencode: %lld of %lld rows%s", static_cast<long long>(first + count),
                 static_cast<long long>(rows), first + count == rows ? "\n" : "");
  }
  return absl::OkStatus();
}

absl::Status Encode(const EncodeFlags& flags, bool as_json) {
  Env& env = RealEnv();
  SAE_ASSIGN_OR_RETURN(const model::Sae sae, checkpoint::LoadSae(env, flags.sae));
  SAE_ASSIGN_OR_RETURN(const auto store, data::ActivationStore::Open(flags.store));
  if (store->d() != sae.d) {
    return absl::InvalidArgumentError(absl::StrCat("the store ", flags.store, " has width ",
                                                   store->d(), ", the SAE ", flags.sae, " has ",
                                                   sae.d));
  }
  const auto split = flags.split == "heldout" ? data::Split::kHeldout : data::Split::kTraining;
  const std::int64_t rows =
      flags.rows > 0 ? std::min(flags.rows, store->rows(split)) : store->rows(split);
  if (rows == 0)
    return absl::InvalidArgumentError(absl::StrCat("the store has no ", flags.split, " rows"));
  const std::int64_t dense_bytes =
      rows * (flags.dense ? sae.latents : 0) * 4 + rows * (flags.recon ? sae.width() : 0) * 4;
  SAE_RETURN_IF_ERROR(RequireFreeBytes(
      env, flags.out, dense_bytes + rows * std::max<std::int64_t>(sae.k, 64) * 8, "encode"));
  Encoded e;
  SAE_RETURN_IF_ERROR(EncodeAll(flags, sae, *store, split, rows, e));
  const auto nnz = static_cast<std::int64_t>(e.values.size());
  std::vector<TensorToWrite> tensors = {
      {"indptr", DType::kI64, {rows + 1}, AsBytes(e.indptr.data(), e.indptr.size())},
      {"indices", DType::kI32, {nnz}, AsBytes(e.indices.data(), e.indices.size())},
      {"values", DType::kF32, {nnz}, AsBytes(e.values.data(), e.values.size())}};
  if (flags.dense)
    tensors.push_back(
        {"f", DType::kF32, {rows, sae.latents}, AsBytes(e.dense.data(), e.dense.size())});
  if (flags.recon)
    tensors.push_back(
        {"x_hat", DType::kF32, {rows, sae.width()}, AsBytes(e.x_hat.data(), e.x_hat.size())});
  const std::string temporary = flags.out + ".tmp";
  absl::Status status =
      WriteSafetensors(env, temporary, tensors,
                       {{"latents", std::to_string(sae.latents)}, {"split", flags.split}})
          .status();
  if (status.ok()) status = env.Rename(temporary, flags.out);
  if (!status.ok()) {
    env.RemoveAll(temporary).IgnoreError();
    return status;
  }
  const double l0 = static_cast<double>(nnz) / static_cast<double>(rows);
  if (as_json) {
    std::printf("%s\n", nlohmann::json{{"out", flags.out},
                                       {"rows", rows},
                                       {"latents", sae.latents},
                                       {"nonzeros", nnz},
                                       {"l0", l0}}
                            .dump()
                            .c_str());
  } else {
    std::printf("%lld rows, L0 %.2f: indptr, indices, values%s%s in %s\n",
                static_cast<long long>(rows), l0, flags.dense ? ", f" : "",
                flags.recon ? ", x_hat" : "", flags.out.c_str());
  }
  return absl::OkStatus();
}

}  // namespace

void AddEncode(CLI::App& app, Invocation& invocation) {
  auto flags = std::make_shared<EncodeFlags>();
  CLI::App* verb =
      app.add_subcommand("encode", "codes of a store's rows, as CSR in a safetensors file");
  verb->add_option("--sae", flags->sae, "a checkpoint of any architecture, or a SAELens folder")
      ->required();
  verb->add_option("--store", flags->store, "an activation store")->required();
  verb->add_option("--out", flags->out, "file to write: indptr I64, indices I32, values F32")
      ->required();
  verb->add_option("--split", flags->split, "training or heldout")
      ->check(CLI::IsMember({"training", "heldout"}));
  verb->add_option("--rows", flags->rows, "the first so many rows; default: all")
      ->check(CLI::NonNegativeNumber);
  verb->add_flag("--dense", flags->dense, "also f [rows, latents]");
  verb->add_flag("--recon", flags->recon,
                 "also x_hat [rows, width of the output]; of a transcoder y_hat");
  verb->footer(
      "In raw units. batchtopk and matryoshka encode by their inference threshold.\n"
      "Examples:\n  saeloom encode --sae my-sae --store runs/demo/store --split heldout --out "
      "codes.safetensors --recon\n"
      "  saeloom encode --sae runs/demo/0003/checkpoints --store runs/demo/store --rows 1000 "
      "--dense --out codes.safetensors");
  verb->callback(
      [flags, &invocation] { invocation.status = Encode(*flags, invocation.output == "json"); });
}

}  // namespace sae::client
