#pragma once
// Where a trainer's batches come from: a store, a generator, later a live language model. Nothing
// above sae/data asks which. One thread at a time; the source may prefetch on a thread of its own.
// Errors: DATA_LOSS (hash, truncation, non-finite rows: names shard and offset), OUT_OF_RANGE never
// (a source has no end: a store starts its next pass).

#include <cstdint>
#include <span>
#include <vector>

#include "sae/base/status.h"

namespace sae::data {

class ActivationSource {
 public:
  virtual ~ActivationSource() = default;
  /// Width of a row.
  virtual std::int64_t d() const = 0;
  /// Fills `rows` (a multiple of d float32 values, row-major) with the next rows in order,
  /// converting from the stored dtype. A batch may cross from one pass into the next.
  [[nodiscard]] virtual absl::Status Next(std::span<float> rows) = 0;
  /// The next `rows` rows where they lie: in memory of the source, or in `room`. They stay as they are
  /// until the next View or Next.
  [[nodiscard]] virtual absl::StatusOr<std::span<const float>> View(std::int64_t rows,
                                                                    std::vector<float>* room) {
    room->resize(static_cast<std::size_t>(rows * d()));
    SAE_RETURN_IF_ERROR(Next(*room));
    return std::span<const float>(*room);
  }
  /// A hint: the rows that will be asked for next. A source may read them meanwhile; an error of it
  /// comes from the View or Next that asks for them.
  virtual void Expect(std::int64_t position, std::int64_t rows) { (void)position, (void)rows; }
  /// Rows delivered since the start of pass 0: all that a checkpoint needs.
  virtual std::int64_t Position() const = 0;
  [[nodiscard]] virtual absl::Status Seek(std::int64_t position) = 0;
};

}  // namespace sae::data
