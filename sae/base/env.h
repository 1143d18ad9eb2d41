#pragma once
// Files, injected: the calls whose failure matters for durability. The real one is POSIX; a test wraps
// it to lose unsynced writes or fail the n-th call. Thread-safe. Errors: NOT_FOUND, ALREADY_EXISTS,
// PERMISSION_DENIED, RESOURCE_EXHAUSTED (no space), INTERNAL; each names the path.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "sae/base/status.h"

namespace sae {

class WritableFile {
 public:
  virtual ~WritableFile() = default;
  [[nodiscard]] virtual absl::Status Append(std::span<const std::byte> data) = 0;
  [[nodiscard]] absl::Status Append(const std::string& text) {
    return Append(std::as_bytes(std::span(text.data(), text.size())));
  }
  /// Data reaches the disk before it returns.
  [[nodiscard]] virtual absl::Status Sync() = 0;
  [[nodiscard]] virtual absl::Status Close() = 0;
};

class Env {
 public:
  virtual ~Env() = default;
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<WritableFile>> Create(const std::string& path) = 0;
  [[nodiscard]] virtual absl::StatusOr<std::unique_ptr<WritableFile>> OpenForAppend(const std::string& path) = 0;
  [[nodiscard]] virtual absl::StatusOr<std::string> Read(const std::string& path) = 0;
  [[nodiscard]] virtual absl::Status Rename(const std::string& from, const std::string& to) = 0;
  [[nodiscard]] virtual absl::Status SyncDirectory(const std::string& path) = 0;
  /// Makes the directory and its parents; OK when it is there.
  [[nodiscard]] virtual absl::Status MakeDirectories(const std::string& path) = 0;
  [[nodiscard]] virtual absl::Status RemoveAll(const std::string& path) = 0;
  /// Names (not paths) in a directory, sorted.
  [[nodiscard]] virtual absl::StatusOr<std::vector<std::string>> List(const std::string& path) = 0;
  virtual bool Exists(const std::string& path) = 0;
  /// Bytes a writer without privileges can still put on the file system of `path` (or of its nearest
  /// existing parent).
  [[nodiscard]] virtual absl::StatusOr<std::int64_t> FreeBytes(const std::string& path) = 0;
};

/// POSIX. The object has no state and lives for ever.
Env& RealEnv();

/// Writes `path` as a whole: a temporary beside it, fsync, rename, fsync of the directory.
[[nodiscard]] absl::Status WriteFileAtomically(Env& env, const std::string& path, const std::string& content);

/// RESOURCE_EXHAUSTED, naming path, need and have, when fewer than `bytes` are free there.
[[nodiscard]] absl::Status RequireFreeBytes(Env& env, const std::string& path, std::int64_t bytes, const std::string& what);

}  // namespace sae
