// Order of a save: temporary folder -> each rank writes and fsyncs its files -> rank 0 writes the manifest,
// fsyncs it and the folder, renames, fsyncs the parent -> older ones go. A rank that fails still takes part
// in every collective, so that all ranks see the same error.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "sae/base/hash.h"
#include "sae/base/failpoint.h"
#include "sae/base/safetensors.h"
#include "sae/checkpoint/agree.h"
#include "sae/checkpoint/block_writer.h"
#include "sae/checkpoint/checkpoint.h"
#include "sae/checkpoint/layout.h"

namespace sae::checkpoint {
namespace {

std::int64_t FileBytes(const std::vector<TensorToWrite>& tensors, const std::string& header) {
  auto bytes = static_cast<std::int64_t>(header.size());
  for (const TensorToWrite& t : tensors) bytes += static_cast<std::int64_t>(t.data.size());
  return bytes;
}

// Rank 0: what all ranks share. No file where there is nothing.
absl::Status WriteReplicated(Env& env, const model::State& state, const std::string& folder,
                             std::vector<FileEntry>* entries) {
  std::vector<TensorToWrite> tensors;
  for (const model::StateTensor& t : state.tensors) {
    if (t.per_latent) continue;
    tensors.push_back({t.name, t.dtype, t.shape,
                       AsBytes(static_cast<const std::byte*>(t.data), static_cast<std::size_t>(Bytes(t)))});
  }
  if (tensors.empty()) return absl::OkStatus();
  SAE_ASSIGN_OR_RETURN(const std::string header, SafetensorsHeader(tensors));
  SAE_ASSIGN_OR_RETURN(const std::uint64_t hash,
                       WriteSafetensors(env, absl::StrCat(folder, "/", kReplicatedFile), tensors));
  entries->push_back({kReplicatedFile, FileBytes(tensors, header), HashToText(hash), 0, 0});
  return absl::OkStatus();
}

Manifest MakeManifest(const model::State& state, const Info& info, int world_size, std::vector<FileEntry> files) {
  Manifest m;
  m.info = info;
  m.latents = state.shard.latents;
  m.deal_seed = state.shard.seed;
  m.block_latents = BlockLatents(state.shard.latents);
  m.world_size = world_size;
  for (const model::StateScalar& s : state.scalars) {
    std::visit([&](auto* value) { m.scalars[s.name] = *value; }, s.value);
  }
  for (const model::StateTensor& t : state.tensors) {
    TensorEntry entry{t.name, t.dtype, t.shape, t.per_latent};
    if (t.per_latent) entry.shape[0] = state.shard.latents;
    m.tensors.push_back(std::move(entry));
  }
  m.files = std::move(files);
  return m;
}

// Rank 0: the folder takes its name.
absl::Status Publish(Env& env, const std::string& directory, const std::string& temporary, const std::string& name,
                     const Manifest& manifest) {
  SAE_ASSIGN_OR_RETURN(auto file, env.Create(temporary + "/manifest.json"));
  SAE_RETURN_IF_ERROR(file->Append(ToJson(manifest)));
  SAE_RETURN_IF_ERROR(file->Sync());
  SAE_RETURN_IF_ERROR(file->Close());
  SAE_FAILPOINT_RETURN("checkpoint.before_sync");
  SAE_RETURN_IF_ERROR(env.SyncDirectory(temporary));
  // One of that name can only be a damaged one here: a whole one ends the save before it begins.
  SAE_RETURN_IF_ERROR(env.RemoveAll(directory + "/" + name));
  SAE_FAILPOINT_RETURN("checkpoint.before_rename");
  SAE_RETURN_IF_ERROR(env.Rename(temporary, directory + "/" + name));
  SAE_FAILPOINT("checkpoint.after_rename");
  return env.SyncDirectory(directory);
}

// Rank 0: of the checkpoints up to `step`, the newest `keep` that have a sound manifest stay. Later ones are
// left alone: they are another attempt's.
absl::Status Prune(Env& env, const std::string& directory, std::int64_t step, int keep) {
  SAE_ASSIGN_OR_RETURN(const std::vector<std::int64_t> steps, CheckpointSteps(env, directory));
  int kept = 0;
  for (const std::int64_t s : steps) {
    if (s > step) continue;
    const std::string folder = directory + "/" + StepName(s);
    if (kept < keep && ReadManifest(env, folder).ok()) {
      ++kept;
    } else {
      SAE_RETURN_IF_ERROR(env.RemoveAll(folder));
    }
  }
  return absl::OkStatus();
}

// Rank 0 prepares the temporary folder; `there` is set when the checkpoint exists and is whole.
absl::Status Prepare(Env& env, const std::string& directory, const std::string& name, const std::string& temporary,
                     bool& there) {
  const std::string folder = directory + "/" + name;
  if (env.Exists(folder)) {
    const absl::StatusOr<Manifest> manifest = ReadManifest(env, folder);
    there = manifest.ok() && Verify(env, folder, *manifest).ok();
    if (there) return absl::OkStatus();
  }
  SAE_RETURN_IF_ERROR(MakeDirectory(env, directory));
  SAE_RETURN_IF_ERROR(env.RemoveAll(temporary));
  return env.MakeDirectories(temporary);
}

absl::Status WriteAll(Env& env, comm::Communicator& communicator, const std::string& directory,
                      const std::string& temporary, const model::State& state, const Info& info,
                      const SaveOptions& options) {
  const bool root = communicator.rank() == 0;
  BlockWriter writer(env, communicator, state, temporary);
  absl::Status files;
  std::vector<FileEntry> replicated;
  SAE_RETURN_IF_ERROR(writer.Write(&files));
  if (root && files.ok()) files = WriteReplicated(env, state, temporary, &replicated);
  SAE_RETURN_IF_ERROR(Agree(communicator, files));
  SAE_ASSIGN_OR_RETURN(std::vector<FileEntry> entries, writer.GatherEntries());
  entries.insert(entries.end(), replicated.begin(), replicated.end());
  absl::Status published;
  if (root) {
    published = Publish(env, directory, temporary, StepName(info.step),
                        MakeManifest(state, info, communicator.size(), std::move(entries)));
    if (published.ok() && options.keep > 0) published = Prune(env, directory, info.step, options.keep);
  }
  return Agree(communicator, published);
}

}  // namespace

absl::Status MakeDirectory(Env& env, const std::string& directory) {
  std::vector<std::string> parents;
  for (std::filesystem::path p = directory; !p.empty() && !env.Exists(p.string()); p = p.parent_path()) {
    parents.push_back(p.parent_path().string());
  }
  SAE_RETURN_IF_ERROR(env.MakeDirectories(directory));
  for (const std::string& parent : parents) SAE_RETURN_IF_ERROR(env.SyncDirectory(parent.empty() ? "." : parent));
  return absl::OkStatus();
}

absl::StatusOr<std::string> SaveCheckpoint(Env& env, comm::Communicator& communicator, const std::string& directory,
                                           const model::State& state, const Info& info, const SaveOptions& options) {
  const std::string name = StepName(info.step);
  const std::string temporary = absl::StrCat(directory, "/", kTemporaryPrefix, name, "-", options.writer);
  const bool root = communicator.rank() == 0;
  bool there = false;
  absl::Status prepared;
  if (root) prepared = Prepare(env, directory, name, temporary, there);
  SAE_RETURN_IF_ERROR(Agree(communicator, prepared));
  std::int64_t skip = there ? 1 : 0;
  SAE_RETURN_IF_ERROR(communicator.Broadcast(&skip, 1, DType::kI64, 0));
  if (skip != 0) return name;
  const absl::Status status = WriteAll(env, communicator, directory, temporary, state, info, options);
  if (!status.ok()) {
    // Best effort: what is left is removed by the next attempt's CleanUp.
    if (root) env.RemoveAll(temporary).IgnoreError();
    return Annotate(status, absl::StrCat("cannot save checkpoint ", name, " in ", directory));
  }
  return name;
}

absl::Status CleanUp(Env& env, const std::string& directory, const std::vector<std::string>& damaged) {
  if (!env.Exists(directory)) return absl::OkStatus();
  for (const std::string& name : damaged) {
    const std::string aside = absl::StrCat(directory, "/", kDamagedPrefix, name);
    SAE_RETURN_IF_ERROR(env.RemoveAll(aside));
    SAE_RETURN_IF_ERROR(env.Rename(directory + "/" + name, aside));
  }
  SAE_ASSIGN_OR_RETURN(const std::vector<std::string> names, env.List(directory));
  for (const std::string& name : names) {
    if (name.rfind(kTemporaryPrefix, 0) != 0) continue;
    SAE_RETURN_IF_ERROR(env.RemoveAll(directory + "/" + name));
  }
  return env.SyncDirectory(directory);
}

}  // namespace sae::checkpoint
