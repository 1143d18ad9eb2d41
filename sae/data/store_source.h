#pragma once
// Training rows of a store as an endless ActivationSource, in the order of PassOrder: the same
// whatever the batch size, the number of readers and interruptions. A thread of its own reads one
// window (32 MiB) ahead; Seek costs one window. One caller at a time. Errors: those of
// ActivationStore, from Next.

#include <cstdint>
#include <memory>
#include <span>

#include "sae/base/status.h"
#include "sae/data/activation_source.h"
#include "sae/data/pass_order.h"
#include "sae/data/store_reader.h"

namespace sae::data {

class StoreSource final : public ActivationSource {
 public:
  /// The store is shared with whoever reads held-out rows and statistics. `kind`: what a row is;
  /// the order of rows is the same for both. Targets that the store lacks are FAILED_PRECONDITION
  /// from Next.
  StoreSource(std::shared_ptr<const ActivationStore> store, std::uint64_t data_seed,
              PassOrderOptions options = {}, RowKind kind = RowKind::kActivations);
  ~StoreSource() override;
  StoreSource(const StoreSource&) = delete;
  StoreSource& operator=(const StoreSource&) = delete;

  /// ActivationStore::width of the kind.
  std::int64_t d() const override;
  [[nodiscard]] absl::Status Next(std::span<float> rows) override;
  std::int64_t Position() const override;
  [[nodiscard]] absl::Status Seek(std::int64_t position) override;

 private:
  class Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace sae::data
