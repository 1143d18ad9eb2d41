#pragma once
// What a load prints and what it finds wrong. Thread-safe.

#include <string>
#include <vector>

#include "absl/time/time.h"

#include "sae/base/mutex.h"

namespace sae::bench {

class Report {
 public:
  /// A line of the table, at once.
  void Say(const std::string& name, const std::string& value);
  /// Remembers `problem` unless `good`; only the first of many alike.
  void Check(bool good, const std::string& problem);
  std::vector<std::string> problems();

 private:
  Mutex mu_;
  std::vector<std::string> problems_ ABSL_GUARDED_BY(mu_);
};

std::string Mebibytes(double bytes);
std::string Milliseconds(absl::Duration d);

}  // namespace sae::bench
