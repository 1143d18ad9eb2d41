#pragma once
// Sorts fixed-size records by a 64-bit key in bounded memory: Add scatters records to buckets of
// key ranges (in memory until it is full, then in files), Drain visits the buckets in order and
// sorts each. Equal keys keep their order of Add. The result does not depend on the memory budget.
// One thread at a time; owns its files, which are gone after Drain (their folder belongs to the
// caller). Errors: those of Env, with the path.

#include <cstdint>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "sae/base/env.h"
#include "sae/base/status.h"

namespace sae::data {

struct ExternalSorterOptions {
  std::string file_prefix;  ///< bucket files are PREFIX followed by a number
  std::int64_t record_bytes = 0;
  std::int64_t memory_bytes = std::int64_t{256} << 20;
  /// Keys that share a bucket: bucket = key / width.
  std::uint64_t bucket_width = std::uint64_t{1} << 58;
};

class ExternalSorter {
 public:
  using Visitor = std::function<absl::Status(std::span<const std::byte> record)>;

  ExternalSorter(ExternalSorterOptions options, Env& env)
      : options_(std::move(options)), env_(env) {}

  /// Copies `record` (record_bytes long).
  [[nodiscard]] absl::Status Add(std::uint64_t key, std::span<const std::byte> record);
  std::int64_t count() const { return count_; }
  bool spilled() const { return spilled_; }
  /// Visits every record once, in order of (key, order of Add), and forgets it. Stops at the first
  /// error.
  [[nodiscard]] absl::Status Drain(const Visitor& visit);

 private:
  struct Bucket {
    std::vector<std::byte> memory;  ///< records with their key before them
    std::string file;               ///< those that came before `memory`, or ""
  };

  std::int64_t stride() const { return options_.record_bytes + 8; }
  absl::Status Spill();
  absl::Status DrainMemory(const Bucket& bucket, const Visitor& visit) const;
  absl::Status DrainFile(Bucket& bucket, const Visitor& visit) const;

  ExternalSorterOptions options_;
  Env& env_;
  std::map<std::uint64_t, Bucket> buckets_;
  std::int64_t buffered_ = 0;
  std::int64_t count_ = 0;
  bool spilled_ = false;
};

}  // namespace sae::data
