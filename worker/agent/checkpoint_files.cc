#include "worker/agent/checkpoint_files.h"

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

#include "sae/base/failpoint.h"
#include "sae/base/hash.h"

namespace saeloom::agent {
namespace {

constexpr char kManifest[] = "manifest.json";
constexpr char kStepPrefix[] = "step-";
/// Under these names nothing counts as a checkpoint; the trainer removes the second.
constexpr char kFilling[] = ".filling-";
constexpr char kGoing[] = ".tmp-going-";

struct File {
  std::string name;
  std::int64_t bytes = 0;
  std::string hash;
};

absl::StatusOr<std::vector<File>> ReadFiles(sae::Env& env, const std::string& folder) {
  SAE_ASSIGN_OR_RETURN(const std::string text, env.Read(folder + "/" + kManifest));
  const auto json = nlohmann::json::parse(text, nullptr, false);
  const absl::Status damaged =
      absl::DataLossError(absl::StrCat(folder, "/", kManifest, " is no manifest of a checkpoint"));
  if (!json.is_object() || !json.contains("files") || !json["files"].is_array()) return damaged;
  std::vector<File> files;
  for (const auto& f : json["files"]) {
    if (!f.is_object() || !f.contains("name") || !f["name"].is_string() || !f.contains("bytes") ||
        !f["bytes"].is_number_integer() || !f.contains("hash") || !f["hash"].is_string())
      return damaged;
    files.push_back({f["name"], f["bytes"], f["hash"]});
    if (files.back().name.find('/') != std::string::npos) return damaged;
  }
  return files;
}

/// -1 when it is not there.
std::int64_t SizeOf(const std::string& path) {
  std::error_code error;
  const auto size = std::filesystem::file_size(path, error);
  return error ? -1 : static_cast<std::int64_t>(size);
}

absl::StatusOr<std::string> HashOf(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  sae::Xxh3Stream hash;
  std::vector<char> buffer(std::size_t{1} << 20);
  while (in) {
    in.read(buffer.data(), static_cast<std::streamsize>(buffer.size()));
    hash.Update(std::as_bytes(std::span(buffer.data(), static_cast<std::size_t>(in.gcount()))));
  }
  if (!in.eof()) return absl::DataLossError(absl::StrCat("cannot read ", path));
  return sae::HashToText(hash.Digest());
}

absl::Status CopyFile(sae::Env& env, const std::string& from, const std::string& to) {
  std::error_code error;
  std::filesystem::copy_file(from, to, error);
  if (error) return sae::ErrnoToStatus(error.value(), sae::ToAbsl("copy " + from + " to " + to));
  SAE_ASSIGN_OR_RETURN(const auto file, env.OpenForAppend(to));
  SAE_RETURN_IF_ERROR(file->Sync());
  return file->Close();
}

bool SameFile(const std::string& a, const std::string& b) {
  std::error_code error;
  return std::filesystem::equivalent(a, b, error) && !error;
}

/// What was copied, and not linked, is read again.
absl::Status CheckCopies(sae::Env& env, const std::string& from, const std::string& folder) {
  SAE_ASSIGN_OR_RETURN(const std::vector<File> files, ReadFiles(env, folder));
  for (const File& file : files) {
    const std::string path = folder + "/" + file.name;
    if (SameFile(from + "/" + file.name, path)) continue;
    SAE_ASSIGN_OR_RETURN(const std::string hash, HashOf(path));
    if (hash != file.hash)
      return absl::DataLossError(absl::StrCat(path, " hashes to ", hash, ", not ", file.hash));
  }
  return absl::OkStatus();
}

std::optional<std::int64_t> StepOf(const std::string& name) {
  std::int64_t step = 0;
  if (name.rfind(kStepPrefix, 0) != 0 ||
      !absl::SimpleAtoi(name.substr(sizeof(kStepPrefix) - 1), &step))
    return std::nullopt;
  return step;
}

/// "" when it has none.
std::string NewestWhole(sae::Env& env, const std::string& directory) {
  const auto names = env.List(directory);
  if (!names.ok()) return "";
  std::vector<std::pair<std::int64_t, std::string>> steps;
  for (const std::string& name : *names) {
    if (const auto step = StepOf(name)) steps.emplace_back(*step, name);
  }
  std::sort(steps.rbegin(), steps.rend());
  for (const auto& [step, name] : steps) {
    if (WholeBytes(env, directory + "/" + name).ok()) return name;
  }
  return "";
}

absl::Status RemoveAtOnce(sae::Env& env, const std::string& directory, const std::string& name) {
  const std::string aside = absl::StrCat(directory, "/", kGoing, name);
  SAE_RETURN_IF_ERROR(env.RemoveAll(aside));  // of a worker that died here
  if (!env.Exists(directory + "/" + name)) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(env.Rename(directory + "/" + name, aside));
  SAE_FAILPOINT("worker.before_delete");
  SAE_RETURN_IF_ERROR(env.RemoveAll(aside));
  return env.SyncDirectory(directory);
}

/// `from` becomes `to`, whole or not at all; `beside` is on the same file system as `to`.
absl::Status LinkFolder(sae::Env& env, const std::string& from, const std::string& beside,
                        const std::string& to, const LinkFile& link) {
  absl::Status status = FillFolder(env, from, beside, link);
  if (status.ok()) status = WholeBytes(env, beside).status();
  if (status.ok()) status = CheckCopies(env, from, beside);
  SAE_FAILPOINT("worker.before_keep");
  if (status.ok()) status = env.RemoveAll(to);  // only one that is damaged, or another save
  if (status.ok()) status = env.Rename(beside, to);
  if (status.ok()) return env.SyncDirectory(to.substr(0, to.rfind('/')));
  env.RemoveAll(beside).IgnoreError();
  return status;
}

}  // namespace

bool HardLink(const std::string& from, const std::string& to) {
  std::error_code error;
  std::filesystem::create_hard_link(from, to, error);
  return !error;
}

absl::StatusOr<std::int64_t> WholeBytes(sae::Env& env, const std::string& folder) {
  SAE_ASSIGN_OR_RETURN(const std::vector<File> files, ReadFiles(env, folder));
  std::int64_t bytes = std::max<std::int64_t>(0, SizeOf(folder + "/" + kManifest));
  for (const File& file : files) {
    const std::int64_t size = SizeOf(folder + "/" + file.name);
    if (size != file.bytes) {
      return absl::DataLossError(absl::StrCat(folder, "/", file.name, " has ",
                                              size < 0 ? "gone" : absl::StrCat(size, " bytes"),
                                              ", the manifest says ", file.bytes));
    }
    bytes += size;
  }
  return bytes;
}

absl::Status FillFolder(sae::Env& env, const std::string& from, const std::string& folder,
                        const LinkFile& link) {
  SAE_RETURN_IF_ERROR(env.RemoveAll(folder));  // of a worker that died here
  SAE_RETURN_IF_ERROR(env.MakeDirectories(folder));
  SAE_ASSIGN_OR_RETURN(const std::vector<std::string> names, env.List(from));
  for (const std::string& name : names) {
    const std::string source = from + "/" + name, target = folder + "/" + name;
    if (link(source, target)) continue;
    SAE_RETURN_IF_ERROR(CopyFile(env, source, target));
  }
  return env.SyncDirectory(folder);
}

absl::StatusOr<std::int64_t> KeepCheckpoint(sae::Env& env, const std::string& trial,
                                            const std::string& name, const LinkFile& link) {
  const std::string source = trial + "/checkpoints/" + name, kept = trial + "/kept/" + name;
  const auto source_bytes = WholeBytes(env, source), kept_bytes = WholeBytes(env, kept);
  if (kept_bytes.ok()) {
    if (!source_bytes.ok()) return *kept_bytes;
    SAE_ASSIGN_OR_RETURN(const std::string one, env.Read(source + "/" + kManifest));
    SAE_ASSIGN_OR_RETURN(const std::string other, env.Read(kept + "/" + kManifest));
    if (one == other) return *kept_bytes;
  }
  if (!source_bytes.ok()) {
    return absl::NotFoundError(
        absl::StrCat(source, " is not there whole: ", source_bytes.status().message()));
  }
  SAE_RETURN_IF_ERROR(env.MakeDirectories(trial + "/kept"));
  SAE_RETURN_IF_ERROR(env.SyncDirectory(trial));
  const absl::Status status =
      LinkFolder(env, source, absl::StrCat(trial, "/kept/", kFilling, name), kept, link);
  if (!status.ok()) {
    // Its trainer may have removed it meanwhile.
    if (WholeBytes(env, source).ok())
      return sae::Annotate(status, sae::ToAbsl("cannot keep " + source));
    return absl::NotFoundError(absl::StrCat(source, " went while it was linked"));
  }
  return WholeBytes(env, kept);
}

absl::StatusOr<std::int64_t> DeleteCheckpoint(sae::Env& env, const std::string& trial,
                                              const std::string& name, bool kept_only) {
  const std::string own = trial + "/checkpoints", kept = trial + "/kept";
  if (env.Exists(own + "/" + name) || env.Exists(kept + "/" + name)) {
    std::string newest = NewestWhole(env, own);
    const bool from_own = !newest.empty();
    if (!from_own) newest = NewestWhole(env, kept);
    if (newest == name && !(kept_only && from_own)) {
      return absl::FailedPreconditionError(absl::StrCat(
          trial, " has no newer whole checkpoint than ", name, ": an attempt would go on from it"));
    }
  }
  // Those of one that was left in the middle are not known any more.
  auto bytes = WholeBytes(env, kept + "/" + name);
  std::vector<std::string> directories = {kept};
  if (!kept_only) {
    if (!bytes.ok()) bytes = WholeBytes(env, own + "/" + name);
    directories.push_back(own);
  }
  for (const std::string& directory : directories) {
    if (!env.Exists(directory)) continue;
    SAE_RETURN_IF_ERROR(env.RemoveAll(absl::StrCat(directory, "/", kFilling, name)));
    SAE_RETURN_IF_ERROR(RemoveAtOnce(env, directory, name));
  }
  return bytes.ok() ? *bytes : 0;
}

absl::Status GoOnFromKept(sae::Env& env, const std::string& trial, const LinkFile& link) {
  const std::string own = trial + "/checkpoints", kept = trial + "/kept";
  if (!env.Exists(kept)) return absl::OkStatus();
  if (env.Exists(own)) {
    SAE_ASSIGN_OR_RETURN(const std::vector<std::string> names, env.List(own));
    if (std::any_of(names.begin(), names.end(),
                    [](const std::string& name) { return StepOf(name).has_value(); }))
      return absl::OkStatus();
  }
  const std::string newest = NewestWhole(env, kept);
  if (newest.empty()) return absl::OkStatus();
  SAE_RETURN_IF_ERROR(env.MakeDirectories(own));
  return LinkFolder(env, kept + "/" + newest, absl::StrCat(trial, "/.begin-", newest),
                    own + "/" + newest, link);
}

}  // namespace saeloom::agent
