#include <algorithm>
#include <cstring>
#include <map>
#include <utility>

#include "sae/base/hash.h"
#include "sae/base/safetensors.h"
#include "sae/checkpoint/agree.h"
#include "sae/checkpoint/checkpoint.h"
#include "sae/checkpoint/layout.h"

namespace sae::checkpoint {
namespace {

std::string ShapeText(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t s : shape) absl::StrAppend(&text, text.size() > 1 ? ", " : "", s);
  return text + "]";
}

std::vector<std::int64_t> GlobalShape(const model::State& state, const model::StateTensor& tensor) {
  std::vector<std::int64_t> shape = tensor.shape;
  if (tensor.per_latent) shape[0] = state.shard.latents;
  return shape;
}

// Everything that can be wrong is found before a byte of the state changes.
absl::Status CheckFit(const Manifest& manifest, const model::State& state) {
  if (manifest.latents != state.shard.latents) {
    return absl::InvalidArgumentError(absl::StrCat("it has ", manifest.latents, " latents, the run has ",
                                                   state.shard.latents,
                                                   ": use another folder for checkpoints, or the same sae.latents"));
  }
  if (manifest.deal_seed != state.shard.seed) {
    return absl::InvalidArgumentError(absl::StrCat("its latents were dealt to ranks by seed ", manifest.deal_seed,
                                                   ", this build deals by ", state.shard.seed,
                                                   ": go on with the build that wrote it"));
  }
  std::map<std::string, const TensorEntry*> there;
  for (const TensorEntry& t : manifest.tensors) there[t.name] = &t;
  for (const model::StateTensor& t : state.tensors) {
    const auto it = there.find(t.name);
    if (it == there.end()) return absl::InvalidArgumentError(absl::StrCat("it has no tensor ", t.name));
    const std::vector<std::int64_t> shape = GlobalShape(state, t);
    if (it->second->shape != shape || it->second->dtype != t.dtype || it->second->per_latent != t.per_latent) {
      return absl::InvalidArgumentError(absl::StrCat("tensor ", t.name, " has shape ", ShapeText(it->second->shape),
                                                     ", the run needs ", ShapeText(shape), " of its own dtype"));
    }
    there.erase(it);
  }
  if (!there.empty()) {
    return absl::InvalidArgumentError(absl::StrCat("it holds tensor ", there.begin()->first,
                                                   ", which this run does not have: was it made by another architecture?"));
  }
  std::size_t matched = 0;
  for (const model::StateScalar& s : state.scalars) {
    const auto it = manifest.scalars.find(s.name);
    if (it == manifest.scalars.end()) return absl::InvalidArgumentError(absl::StrCat("it has no scalar ", s.name));
    if (it->second.index() != s.value.index()) {
      return absl::InvalidArgumentError(absl::StrCat("scalar ", s.name, " is of another type"));
    }
    ++matched;
  }
  if (matched != manifest.scalars.size()) {
    return absl::InvalidArgumentError("it holds scalars that this run does not have");
  }
  return absl::OkStatus();
}

absl::StatusOr<TensorView> GetChecked(const SafetensorsReader& reader, const model::StateTensor& tensor,
                                      std::vector<std::int64_t> shape) {
  SAE_ASSIGN_OR_RETURN(TensorView view, reader.Get(tensor.name));
  if (view.shape != shape || view.dtype != tensor.dtype) {
    return absl::DataLossError(absl::StrCat(reader.path(), ": tensor ", tensor.name, " has shape ",
                                            ShapeText(view.shape), ", not ", ShapeText(shape)));
  }
  return view;
}

absl::Status LoadBlock(const std::string& folder, const FileEntry& file, const model::State& state) {
  const std::int64_t begin = state.shard.LocalBelow(file.first);
  const std::int64_t end = state.shard.LocalBelow(file.first + file.rows);
  if (end <= begin) return absl::OkStatus();
  SAE_ASSIGN_OR_RETURN(const auto reader, SafetensorsReader::Open(folder + "/" + file.name));
  for (const model::StateTensor& t : state.tensors) {
    if (!t.per_latent) continue;
    std::vector<std::int64_t> shape = t.shape;
    shape[0] = file.rows;
    SAE_ASSIGN_OR_RETURN(const TensorView view, GetChecked(*reader, t, std::move(shape)));
    const std::int64_t row = RowBytes(t.dtype, t.shape);
    for (std::int64_t i = begin; i < end;) {
      const std::int64_t first = state.shard.Global(i);
      std::int64_t run = 1;  // rows that follow each other in the file as well
      while (i + run < end && state.shard.Global(i + run) == first + run) ++run;
      std::memcpy(static_cast<std::byte*>(t.data) + i * row, view.data.data() + (first - file.first) * row,
                  static_cast<std::size_t>(run * row));
      i += run;
    }
  }
  return absl::OkStatus();
}

absl::Status LoadReplicated(const std::string& folder, const model::State& state) {
  const bool any = std::any_of(state.tensors.begin(), state.tensors.end(), [](const auto& t) { return !t.per_latent; });
  if (!any) return absl::OkStatus();
  SAE_ASSIGN_OR_RETURN(const auto reader, SafetensorsReader::Open(folder + "/" + kReplicatedFile));
  for (const model::StateTensor& t : state.tensors) {
    if (t.per_latent) continue;
    SAE_ASSIGN_OR_RETURN(const TensorView view, GetChecked(*reader, t, t.shape));
    std::memcpy(t.data, view.data.data(), view.data.size());
  }
  return absl::OkStatus();
}

absl::Status LoadMine(const std::string& folder, const Manifest& manifest, const model::State& state) {
  SAE_RETURN_IF_ERROR(CheckFit(manifest, state));
  std::int64_t covered = 0;
  for (const FileEntry& file : manifest.files) {
    SAE_RETURN_IF_ERROR(LoadBlock(folder, file, state));
    covered += file.rows;
  }
  if (covered != manifest.latents) {
    return absl::DataLossError(absl::StrCat("its files hold ", covered, " latents of ", manifest.latents));
  }
  SAE_RETURN_IF_ERROR(LoadReplicated(folder, state));
  for (const model::StateScalar& s : state.scalars) {
    const auto& value = manifest.scalars.at(s.name);
    if (auto* const* integer = std::get_if<std::int64_t*>(&s.value)) {
      **integer = std::get<std::int64_t>(value);
    } else {
      *std::get<double*>(s.value) = std::get<double>(value);
    }
  }
  return absl::OkStatus();
}

// One candidate of FindLatest: the manifest is read once and travels, so that all ranks hold the same.
absl::Status CheckCandidate(Env& env, comm::Communicator& communicator, const std::string& folder,
                            Manifest& manifest) {
  std::string text;
  absl::Status status;
  if (communicator.rank() == 0) {
    absl::StatusOr<std::string> read = env.Read(folder + "/manifest.json");
    if (read.ok()) text = *std::move(read);
    status = read.status();
  }
  SAE_RETURN_IF_ERROR(Agree(communicator, status));
  SAE_RETURN_IF_ERROR(BroadcastText(communicator, text));
  absl::StatusOr<Manifest> parsed = ParseManifest(text);
  if (!parsed.ok()) return Annotate(parsed.status(), absl::StrCat(folder, "/manifest.json"));
  manifest = *std::move(parsed);
  return Agree(communicator, Verify(env, folder, manifest, communicator.rank(), communicator.size()));
}

bool IsTransport(const absl::Status& status) {
  return absl::IsAborted(status) || absl::IsDeadlineExceeded(status) || absl::IsUnavailable(status);
}

}  // namespace

absl::Status Verify(Env& env, const std::string& folder, const Manifest& manifest, int part, int parts) {
  for (std::size_t i = static_cast<std::size_t>(part); i < manifest.files.size(); i += static_cast<std::size_t>(parts)) {
    const FileEntry& file = manifest.files[i];
    const std::string path = folder + "/" + file.name;
    SAE_ASSIGN_OR_RETURN(const std::string content, env.Read(path));
    if (static_cast<std::int64_t>(content.size()) != file.bytes) {
      return absl::DataLossError(absl::StrCat(path, ": has ", content.size(), " bytes, its manifest says ", file.bytes));
    }
    if (const std::string hash = HashToText(Xxh3(content)); hash != file.hash) {
      return absl::DataLossError(absl::StrCat(path, ": has hash ", hash, ", its manifest says ", file.hash));
    }
  }
  return absl::OkStatus();
}

absl::StatusOr<Latest> FindLatest(Env& env, comm::Communicator& communicator, const std::string& directory) {
  std::vector<std::int64_t> steps;
  absl::Status listed;
  if (communicator.rank() == 0) {
    absl::StatusOr<std::vector<std::int64_t>> found = CheckpointSteps(env, directory);
    if (found.ok()) steps = *std::move(found);
    listed = found.status();
  }
  SAE_RETURN_IF_ERROR(Agree(communicator, listed));
  auto count = static_cast<std::int64_t>(steps.size());
  SAE_RETURN_IF_ERROR(communicator.Broadcast(&count, 1, DType::kI64, 0));
  steps.resize(static_cast<std::size_t>(count));
  if (count > 0) {
    SAE_RETURN_IF_ERROR(communicator.Broadcast(steps.data(), count, DType::kI64, 0));
  }
  Latest latest;
  for (const std::int64_t step : steps) {
    const std::string name = StepName(step);
    const absl::Status status = CheckCandidate(env, communicator, directory + "/" + name, latest.manifest);
    if (status.ok()) {
      latest.name = name;
      return latest;
    }
    // Damage is passed over; a format of another version is the user's to decide.
    if (IsTransport(status) || absl::IsInvalidArgument(status)) return status;
    latest.damaged.push_back(name);
    latest.warnings.push_back(absl::StrCat("checkpoint ", name, " is passed over: ", Message(status)));
  }
  latest.manifest = Manifest{};
  return latest;
}

absl::Status LoadCheckpoint(Env& /*env*/, comm::Communicator& communicator, const std::string& folder,
                            const Manifest& manifest, const model::State& state) {
  return Annotate(Agree(communicator, LoadMine(folder, manifest, state)),
                  absl::StrCat("cannot load checkpoint ", folder));
}

absl::StatusOr<std::vector<float>> ReadTensor(const std::string& folder, const Manifest& manifest,
                                              const std::string& name) {
  std::string names;
  for (const TensorEntry& t : manifest.tensors) {
    absl::StrAppend(&names, names.empty() ? "" : ", ", t.name);
    if (t.name != name) continue;
    std::vector<float> out;
    for (const FileEntry& file : manifest.files) {
      if (t.per_latent != (file.rows > 0)) continue;
      SAE_ASSIGN_OR_RETURN(const auto reader, SafetensorsReader::Open(folder + "/" + file.name));
      std::vector<std::int64_t> shape = t.shape;
      if (t.per_latent) shape[0] = file.rows;
      SAE_ASSIGN_OR_RETURN(const std::vector<float> part, reader->GetFloats(name, shape));
      out.insert(out.end(), part.begin(), part.end());
    }
    return out;
  }
  return absl::NotFoundError(absl::StrCat(folder, " has no tensor ", name, "; it has ", names));
}

}  // namespace sae::checkpoint
