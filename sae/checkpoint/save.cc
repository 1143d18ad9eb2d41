// Order of a save: temporary folder -> each rank writes and fsyncs its files -> rank 0 writes the manifest,
// fsyncs it and the folder, renames, fsyncs the parent -> older ones go. A rank that fails still takes part
// in every collective, so that all ranks see the same error.
#include <algorithm>
#include <filesystem>
#include <utility>

#include "sae/base/hash.h"
#include "sae/base/safetensors.h"
#include "sae/checkpoint/agree.h"
#include "sae/checkpoint/checkpoint.h"
#include "sae/checkpoint/layout.h"

namespace sae::checkpoint {
namespace {

// Latents of every rank, [first, first + count), in rank order.
struct Ranges {
  std::vector<std::int64_t> first;
  std::vector<std::int64_t> count;
  int OwnerOf(std::int64_t latent) const {
    for (std::size_t r = 0; r < first.size(); ++r) {
      if (latent >= first[r] && latent < first[r] + count[r]) return static_cast<int>(r);
    }
    return -1;
  }
};

absl::StatusOr<Ranges> GatherRanges(comm::Communicator& communicator, const model::State& state) {
  const auto size = static_cast<std::size_t>(communicator.size());
  const std::int64_t mine[2] = {state.first, state.count};
  std::vector<std::int64_t> all(2 * size);
  SAE_RETURN_IF_ERROR(communicator.AllGather<std::int64_t>(std::span<const std::int64_t>(mine, 2), all));
  Ranges ranges;
  std::int64_t next = 0;
  for (std::size_t r = 0; r < size; ++r) {
    ranges.first.push_back(all[2 * r]);
    ranges.count.push_back(all[2 * r + 1]);
    if (ranges.first.back() != next) {
      return absl::InternalError(absl::StrCat("rank ", r, " starts at latent ", ranges.first.back(), ", not at ", next));
    }
    next += ranges.count.back();
  }
  if (next != state.latents) {
    return absl::InternalError(absl::StrCat("the ranks hold ", next, " latents of ", state.latents));
  }
  return ranges;
}

// A folder being written by one attempt.
class Writer {
 public:
  Writer(Env& env, comm::Communicator& communicator, const model::State& state, std::string folder)
      : env_(env), communicator_(communicator), state_(state), folder_(std::move(folder)) {}

  // Writes this rank's share. The collectives' errors come back; those of files are in `file_status`.
  absl::Status WriteBlocks(const Ranges& ranges, absl::Status& file_status);
  // Rank 0.
  absl::Status WriteReplicated();
  // The entries of all ranks, in block order.
  absl::StatusOr<std::vector<FileEntry>> GatherEntries(const Ranges& ranges);

 private:
  absl::StatusOr<std::vector<std::byte>> GatherRows(const Ranges& ranges, const Block& block,
                                                    const model::StateTensor& tensor);
  absl::Status WriteFile(const std::string& name, const std::vector<TensorToWrite>& tensors, const Block& block);

  Env& env_;
  comm::Communicator& communicator_;
  const model::State& state_;
  std::string folder_;
  std::vector<FileEntry> entries_;
};

std::int64_t FileBytes(const std::vector<TensorToWrite>& tensors, const std::string& header) {
  auto bytes = static_cast<std::int64_t>(header.size());
  for (const TensorToWrite& t : tensors) bytes += static_cast<std::int64_t>(t.data.size());
  return bytes;
}

absl::Status Writer::WriteFile(const std::string& name, const std::vector<TensorToWrite>& tensors,
                               const Block& block) {
  SAE_ASSIGN_OR_RETURN(const std::string header, SafetensorsHeader(tensors));
  SAE_ASSIGN_OR_RETURN(const std::uint64_t hash, WriteSafetensors(env_, folder_ + "/" + name, tensors));
  entries_.push_back({name, FileBytes(tensors, header), HashToText(hash), block.first, block.rows});
  return absl::OkStatus();
}

absl::StatusOr<std::vector<std::byte>> Writer::GatherRows(const Ranges& ranges, const Block& block,
                                                          const model::StateTensor& tensor) {
  const std::int64_t row = RowBytes(tensor.dtype, tensor.shape);
  std::vector<std::int64_t> counts;
  std::int64_t offset = 0;
  for (std::size_t r = 0; r < ranges.first.size(); ++r) {
    const std::int64_t begin = std::max(block.first, ranges.first[r]);
    const std::int64_t end = std::min(block.first + block.rows, ranges.first[r] + ranges.count[r]);
    counts.push_back(std::max<std::int64_t>(0, end - begin) * row);
    if (static_cast<int>(r) == communicator_.rank() && end > begin) offset = (begin - ranges.first[r]) * row;
  }
  std::vector<std::byte> rows(static_cast<std::size_t>(block.rows * row));
  SAE_RETURN_IF_ERROR(communicator_.AllGatherV(static_cast<const std::byte*>(tensor.data) + offset, rows.data(),
                                               counts, DType::kU8));
  return rows;
}

absl::Status Writer::WriteBlocks(const Ranges& ranges, absl::Status& file_status) {
  const int me = communicator_.rank();
  for (const Block& block : Blocks(state_.latents, BlockLatents(state_.latents))) {
    const int owner = ranges.OwnerOf(block.first);
    const bool straddles = ranges.OwnerOf(block.first + block.rows - 1) != owner;
    if (!straddles && owner != me) continue;
    std::vector<std::vector<std::byte>> gathered;
    std::vector<TensorToWrite> tensors;
    for (const model::StateTensor& t : state_.tensors) {
      if (!t.per_latent) continue;
      const std::int64_t row = RowBytes(t.dtype, t.shape);
      std::vector<std::int64_t> shape = t.shape;
      shape[0] = block.rows;
      std::span<const std::byte> data;
      if (straddles) {
        SAE_ASSIGN_OR_RETURN(gathered.emplace_back(), GatherRows(ranges, block, t));
        data = gathered.back();
      } else {
        data = AsBytes(static_cast<const std::byte*>(t.data) + (block.first - state_.first) * row,
                       static_cast<std::size_t>(block.rows * row));
      }
      tensors.push_back({t.name, t.dtype, std::move(shape), data});
    }
    if (owner == me && file_status.ok()) file_status = WriteFile(BlockName(block.index), tensors, block);
  }
  return absl::OkStatus();
}

absl::Status Writer::WriteReplicated() {
  std::vector<TensorToWrite> tensors;
  for (const model::StateTensor& t : state_.tensors) {
    if (t.per_latent) continue;
    tensors.push_back({t.name, t.dtype, t.shape,
                       AsBytes(static_cast<const std::byte*>(t.data), static_cast<std::size_t>(Bytes(t)))});
  }
  return tensors.empty() ? absl::OkStatus() : WriteFile(kReplicatedFile, tensors, Block{});
}

// Names follow from the place; hash and size are what travels.
absl::StatusOr<std::vector<FileEntry>> Writer::GatherEntries(const Ranges& ranges) {
  const std::vector<Block> blocks = Blocks(state_.latents, BlockLatents(state_.latents));
  std::vector<std::int64_t> counts(ranges.first.size(), 0);
  for (const Block& b : blocks) counts[static_cast<std::size_t>(ranges.OwnerOf(b.first))] += 2;
  std::vector<std::int64_t> mine;
  for (const FileEntry& e : entries_) {
    if (e.rows == 0) continue;
    mine.push_back(static_cast<std::int64_t>(std::stoull(e.hash.substr(e.hash.find(':') + 1), nullptr, 16)));
    mine.push_back(e.bytes);
  }
  std::vector<std::int64_t> all(2 * blocks.size());
  SAE_RETURN_IF_ERROR(communicator_.AllGatherV(mine.data(), all.data(), counts, DType::kI64));
  std::vector<FileEntry> out;
  for (const Block& b : blocks) {
    const auto i = static_cast<std::size_t>(2 * b.index);
    out.push_back({BlockName(b.index), all[i + 1], HashToText(static_cast<std::uint64_t>(all[i])), b.first, b.rows});
  }
  for (const FileEntry& e : entries_) {
    if (e.rows == 0) out.push_back(e);
  }
  return out;
}

Manifest MakeManifest(const model::State& state, const Info& info, int world_size, std::vector<FileEntry> files) {
  Manifest m;
  m.info = info;
  m.latents = state.latents;
  m.block_latents = BlockLatents(state.latents);
  m.world_size = world_size;
  for (const model::StateScalar& s : state.scalars) {
    std::visit([&](auto* value) { m.scalars[s.name] = *value; }, s.value);
  }
  for (const model::StateTensor& t : state.tensors) {
    TensorEntry entry{t.name, t.dtype, t.shape, t.per_latent};
    if (t.per_latent) entry.shape[0] = state.latents;
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
  SAE_RETURN_IF_ERROR(env.SyncDirectory(temporary));
  // One of that name can only be a damaged one here: a whole one ends the save before it begins.
  SAE_RETURN_IF_ERROR(env.RemoveAll(directory + "/" + name));
  SAE_RETURN_IF_ERROR(env.Rename(temporary, directory + "/" + name));
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
  SAE_ASSIGN_OR_RETURN(const Ranges ranges, GatherRanges(communicator, state));
  Writer writer(env, communicator, state, temporary);
  absl::Status files;
  SAE_RETURN_IF_ERROR(writer.WriteBlocks(ranges, files));
  if (root && files.ok()) files = writer.WriteReplicated();
  SAE_RETURN_IF_ERROR(Agree(communicator, files));
  SAE_ASSIGN_OR_RETURN(std::vector<FileEntry> entries, writer.GatherEntries(ranges));
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
