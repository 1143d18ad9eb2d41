#pragma once
// A directory that gets its name only when it is complete: built as NAME.partial, locked while it
// is written, renamed at the end, removed otherwise. One thread at a time; owns the directory and a
// lock. Errors: ALREADY_EXISTS (NAME is there), FAILED_PRECONDITION (another process builds it),
// those of Env.

#include <memory>
#include <string>

#include "sae/base/env.h"
#include "sae/base/status.h"

namespace sae::data {

class PartialDirectory {
 public:
  /// Removes first what a killed process left under NAME.partial.
  [[nodiscard]] static absl::StatusOr<std::unique_ptr<PartialDirectory>> Create(
      const std::string& name, Env& env);
  /// Removes NAME.partial unless Commit succeeded.
  ~PartialDirectory();
  PartialDirectory(const PartialDirectory&) = delete;
  PartialDirectory& operator=(const PartialDirectory&) = delete;

  /// Where to put the files.
  const std::string& path() const { return path_; }
  [[nodiscard]] absl::Status Commit();

 private:
  PartialDirectory(std::string name, Env& env)
      : name_(std::move(name)), path_(name_ + ".partial"), env_(env) {}
  std::string lock_path() const { return path_ + "/.lock"; }

  const std::string name_, path_;
  Env& env_;
  int lock_fd_ = -1;
};

}  // namespace sae::data
