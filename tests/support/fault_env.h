#pragma once
// An Env for tests that dies or loses power. It works on real files below a test's own folder and keeps a
// journal of what has not been made durable. Not thread-safe; one object stands for one machine.
//
// Durable are: a file's bytes after Sync; a name (created, renamed) after SyncDirectory of its parent.
// Removals are durable at once: a name that comes back is a case the code under test meets anyway.

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "sae/base/env.h"

namespace sae::testing {

class FaultEnv final : public Env {
 public:
  explicit FaultEnv(Env& base) : base_(base) {}

  /// The nth mutating call from now (1 = the next) and all after it fail, as in a process that dies there;
  /// a failing Append leaves half of its bytes. 0 = never.
  void FailFrom(std::int64_t nth) { fail_from_ = nth == 0 ? 0 : calls_ + nth; }
  /// Only that call fails, as with a full disk.
  void FailOnce(std::int64_t nth) {
    FailFrom(nth);
    once_ = true;
  }
  /// Mutating calls so far.
  std::int64_t calls() const { return calls_; }
  /// Undoes everything that was not durable, then works again.
  void LosePower();
  /// What a killed process leaves: everything written so far. Works again.
  void Restart();
  void set_free_bytes(std::int64_t bytes) { free_bytes_ = bytes; }

  absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) override;
  absl::StatusOr<std::unique_ptr<WritableFile>> OpenForAppend(const std::string& path) override;
  absl::StatusOr<std::string> Read(const std::string& path) override { return base_.Read(path); }
  absl::Status Rename(const std::string& from, const std::string& to) override;
  absl::Status SyncDirectory(const std::string& path) override;
  absl::Status MakeDirectories(const std::string& path) override;
  absl::Status RemoveAll(const std::string& path) override;
  absl::StatusOr<std::vector<std::string>> List(const std::string& path) override { return base_.List(path); }
  bool Exists(const std::string& path) override { return base_.Exists(path); }
  absl::StatusOr<std::int64_t> FreeBytes(const std::string& path) override;

 private:
  friend class FaultFile;
  enum class Kind { kCreated, kRenamed };
  struct Entry {
    Kind kind;
    std::string path;
    std::string from;  // kRenamed
  };
  // Counts the call; an error when it is to fail.
  absl::Status Count(const std::string& what);
  void Rekey(const std::string& from, const std::string& to);

  Env& base_;
  std::int64_t calls_ = 0;
  std::int64_t fail_from_ = 0;
  bool once_ = false;
  std::int64_t free_bytes_ = -1;
  std::vector<Entry> journal_;
  std::map<std::string, std::int64_t> synced_bytes_;  // of files with bytes that are not durable
};

}  // namespace sae::testing
