#pragma once
// A file layer for SQLite whose disk fails: writes and syncs can be refused, be slow, and what was
// not synced is lost when the power fails. What is written stays in memory until a sync brings it
// to the file, so also the death of the process loses what was not synced. Thread-safe. Errors of
// the operations are SQLite's codes.

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "sae/base/mutex.h"

struct sqlite3_vfs;

namespace sae::server::testing {

class FaultyVfs {
 public:
  enum class Fault {
    kNone,
    kNoSpace,  ///< writes that make a file longer: "disk full"
    kIo,       ///< writes, truncations and syncs: an I/O error
  };

  /// Registers itself with SQLite under this name, for as long as it lives: longer than all its
  /// files.
  explicit FaultyVfs(std::string name);
  ~FaultyVfs();
  FaultyVfs(const FaultyVfs&) = delete;
  FaultyVfs& operator=(const FaultyVfs&) = delete;

  const std::string& name() const { return name_; }
  /// Writes, truncations and syncs so far.
  std::int64_t operations();
  /// `count` operations from the `first` on (1 = the very first) meet `fault`.
  void FailFrom(std::int64_t first, Fault fault, std::int64_t count = INT64_MAX);
  void Heal() { FailFrom(0, Fault::kNone, 0); }
  /// At operation `at` the power fails. With `seed`, each sector that was not synced survives or
  /// not; without, none does.
  void CutPowerAt(std::int64_t at, std::optional<std::uint64_t> seed = std::nullopt);
  /// Every operation fails until Reboot.
  bool power_is_off();
  void Reboot();
  /// Called at each sync, without locks held: to be slow.
  void OnSync(std::function<void()> hook);
  /// From now on this file says what to do, read at each operation: "none", "full", "io", or
  /// "slow MILLISECONDS". A missing file says "none".
  void FollowFile(std::string path);

 private:
  friend struct FaultyFile;
  struct Change {
    std::int64_t offset = 0;  ///< of a truncation: the new size
    std::string bytes;
    bool truncation = false;
  };
  /// Of one path: not synced yet, in order.
  using Changes = std::vector<Change>;

  /// SQLite's code for the operation; the power may fail here.
  int Operation(const std::string& path, int io_error, bool grows);
  Fault Asked(absl::Duration& delay);
  void LoseUnsynced() ABSL_EXCLUSIVE_LOCKS_REQUIRED(mu_);

  const std::string name_;
  const std::unique_ptr<sqlite3_vfs> vfs_;
  Mutex mu_;
  std::map<std::string, Changes> unsynced_ ABSL_GUARDED_BY(mu_);
  std::int64_t operations_ ABSL_GUARDED_BY(mu_) = 0;
  std::int64_t fail_first_ ABSL_GUARDED_BY(mu_) = 0;
  std::int64_t fail_count_ ABSL_GUARDED_BY(mu_) = 0;
  Fault fault_ ABSL_GUARDED_BY(mu_) = Fault::kNone;
  std::int64_t cut_at_ ABSL_GUARDED_BY(mu_) = 0;
  std::optional<std::uint64_t> cut_seed_ ABSL_GUARDED_BY(mu_);
  bool off_ ABSL_GUARDED_BY(mu_) = false;
  std::function<void()> on_sync_ ABSL_GUARDED_BY(mu_);
  std::string file_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sae::server::testing
