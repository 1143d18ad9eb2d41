#include <algorithm>
#include <utility>
#include <vector>

#include "sae/comm/rendezvous.h"

namespace sae::comm {
namespace {

constexpr std::size_t kMaxName = 100;

absl::Status CheckName(const char* what, const std::string& name) {
  const auto plain = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
           c == '_' || c == '.';
  };
  if (!name.empty() && name.size() <= kMaxName && name[0] != '.' &&
      std::all_of(name.begin(), name.end(), plain)) {
    return absl::OkStatus();
  }
  return absl::InvalidArgumentError(
      absl::StrCat("rendezvous: ", what, " '", name, "' must be 1 to ", kMaxName,
                   " letters, digits, '-', '_' or '.', and not begin with '.'"));
}

class OverFiles final : public Rendezvous {
 public:
  /// `folders`: the group's own, then those of the groups that it is a part of.
  OverFiles(const FileRendezvousOptions& options, std::vector<std::string> folders)
      : options_(options), folders_(std::move(folders)) {}
  int rank() const override { return options_.rank; }
  int size() const override { return options_.size; }

  absl::Status Publish(const std::string& key, const std::string& blob) override {
    SAE_RETURN_IF_ERROR(CheckName("key", key));
    return WriteFileAtomically(*options_.env, PathOf("key.", key), blob);
  }

  absl::StatusOr<std::string> Fetch(const std::string& key, int publisher,
                                    absl::Duration deadline) override {
    SAE_RETURN_IF_ERROR(CheckName("key", key));
    const std::string path = PathOf("key.", key);
    const absl::Duration end = options_.clock->SinceBoot() + deadline;
    while (!options_.env->Exists(path)) {
      SAE_RETURN_IF_ERROR(Check());
      if (options_.clock->SinceBoot() >= end) {
        return absl::DeadlineExceededError(absl::StrCat("rendezvous: no sign of rank ", publisher,
                                                        " within ", absl::FormatDuration(deadline),
                                                        ": no file ", path));
      }
      options_.clock->SleepFor(kPause);
    }
    return options_.env->Read(path);
  }

  absl::Status RollCall(const std::string& key, absl::Duration grace) override {
    SAE_RETURN_IF_ERROR(CheckName("key", key));
    SAE_RETURN_IF_ERROR(WriteFileAtomically(*options_.env, Answer(key, rank()), ""));
    SAE_RETURN_IF_ERROR(WriteFileAtomically(*options_.env, Call(key, rank()), ""));
    SAE_RETURN_IF_ERROR(options_.env->Rename(Call(key, rank()), PathOf("called.", key)));
    const absl::Duration end = options_.clock->SinceBoot() + grace;
    for (;;) {
      std::string missing;
      for (int r = 0; r < size(); ++r) {
        if (!options_.env->Exists(Answer(key, r)))
          absl::StrAppend(&missing, missing.empty() ? "" : ", ", r);
      }
      if (missing.empty()) return absl::OkStatus();
      SAE_RETURN_IF_ERROR(Check());
      if (options_.clock->SinceBoot() >= end)
        return absl::DeadlineExceededError(absl::StrCat("no sign of rank ", missing));
      options_.clock->SleepFor(kPause);
    }
  }

  bool Called(const std::string& key) override {
    return options_.env->Exists(PathOf("called.", key));
  }

  void Abort(const std::string& reason) override {
    // Each rank writes a file of its own and moves it to the common name: the last one stands.
    const std::string own = absl::StrCat(folders_[0], "/abort.", rank());
    const std::string note = absl::StrCat("rank ", rank(), ": ", reason);
    if (WriteFileAtomically(*options_.env, own, note).ok())
      (void)options_.env->Rename(own, AbortNote(folders_[0]));
    // Where nothing can be written the others end by their deadline.
  }

  absl::Status Check() override {
    for (const std::string& folder : folders_) {
      const std::string note = AbortNote(folder);
      if (!options_.env->Exists(note)) continue;
      const absl::StatusOr<std::string> reason = options_.env->Read(note);
      return absl::AbortedError(reason.ok() ? *reason : Message(reason.status()));
    }
    return absl::OkStatus();
  }

  absl::StatusOr<std::unique_ptr<Rendezvous>> Split(int color, int /*key*/, int rank,
                                                    int size) override {
    FileRendezvousOptions options = options_;
    options.rank = rank;
    options.size = size;
    std::vector<std::string> folders{absl::StrCat(folders_[0], "/part.", splits_++, ".", color)};
    folders.insert(folders.end(), folders_.begin(), folders_.end());
    SAE_RETURN_IF_ERROR(options.env->MakeDirectories(folders[0]));
    return std::unique_ptr<Rendezvous>(std::make_unique<OverFiles>(options, std::move(folders)));
  }

 private:
  static constexpr absl::Duration kPause = absl::Milliseconds(5);

  std::string PathOf(const char* prefix, const std::string& key) const {
    return absl::StrCat(folders_[0], "/", prefix, key);
  }
  std::string Answer(const std::string& key, int rank) const {
    return absl::StrCat(PathOf("roll.", key), ".", rank);
  }
  std::string Call(const std::string& key, int rank) const {
    return absl::StrCat(PathOf("call.", key), ".", rank);
  }
  static std::string AbortNote(const std::string& folder) { return folder + "/abort"; }

  const FileRendezvousOptions options_;
  const std::vector<std::string> folders_;
  int splits_ = 0;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Rendezvous>> CreateFileRendezvous(
    const FileRendezvousOptions& options) {
  SAE_RETURN_IF_ERROR(CheckName("attempt", options.attempt));
  if (options.size < 1 || options.rank < 0 || options.rank >= options.size) {
    return absl::InvalidArgumentError(
        absl::StrCat("rendezvous: rank ", options.rank, " of ", options.size));
  }
  const std::string folder = absl::StrCat(options.folder, "/", options.attempt);
  SAE_RETURN_IF_ERROR(options.env->MakeDirectories(folder));
  return std::unique_ptr<Rendezvous>(
      std::make_unique<OverFiles>(options, std::vector<std::string>{folder}));
}

}  // namespace sae::comm
