#include "sae/data/store_writer.h"

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <optional>
#include <vector>

#include "sae/base/hash.h"
#include "sae/base/random.h"
#include "sae/base/safetensors.h"
#include "sae/data/external_sorter.h"
#include "sae/data/partial_directory.h"
#include "sae/data/row_codec.h"
#include "sae/data/shard_writer.h"

namespace sae::data {
namespace {

constexpr std::int64_t kShardOverhead = 8192;  ///< header block and manifest entry
/// The part of the memory budget that held-out rows get.
constexpr std::int64_t kHeldoutShare = 8;
constexpr std::int64_t kColumnBytes = 12;

absl::Status CheckOptions(const StoreWriterOptions& o) {
  std::string problems;
  const auto problem = [&](const std::string& text) {
    absl::StrAppend(&problems, problems.empty() ? "" : "; ", text);
  };
  if (o.d < 1) problem(absl::StrCat("d is ", o.d, ", must be at least 1"));
  if (o.target_d < 0) problem(absl::StrCat("target_d is ", o.target_d, ", must be 0 or more"));
  if (StoreDTypeName(o.dtype) == "unsupported") problem("dtype must be bf16, f16 or f32");
  if (!(o.heldout_fraction >= 0 && o.heldout_fraction < 1)) {
    problem(absl::StrCat("held-out fraction ", o.heldout_fraction, " is not in [0, 1)"));
  }
  if (o.shard_bytes < 1) problem(absl::StrCat("shard size ", o.shard_bytes, " is not positive"));
  if (o.memory_bytes < 1)
    problem(absl::StrCat("memory budget ", o.memory_bytes, " is not positive"));
  if (o.expected_rows < 0) problem(absl::StrCat("expected rows ", o.expected_rows, " is negative"));
  return problems.empty() ? absl::OkStatus()
                          : absl::InvalidArgumentError("cannot write a store: " + problems);
}

std::int64_t BucketCount(const StoreWriterOptions& o, std::int64_t rows,
                         std::int64_t record_bytes) {
  if (rows == 0) return 256;
  const std::int64_t wanted = 4 * rows * record_bytes / o.memory_bytes + 1;
  return static_cast<std::int64_t>(
      std::bit_ceil(static_cast<std::uint64_t>(std::clamp<std::int64_t>(wanted, 16, 4096))));
}

/// Sums for the mean and the mean squared norm of values as stored: after rounding to the dtype.
class Moments {
 public:
  explicit Moments(std::int64_t width)
      : sum_(static_cast<std::size_t>(width), 0.0), decoded_(static_cast<std::size_t>(width)) {}

  void Add(const std::byte* row, DType dtype) {
    DecodeValues(row, dtype, decoded_);
    double squares = 0;
    for (std::size_t c = 0; c < sum_.size(); ++c) {
      const double v = decoded_[c];
      sum_[c] += v;
      squares += v * v;
    }
    squares_ += squares;
  }
  std::vector<double> Mean(std::int64_t rows) const {
    std::vector<double> mean = sum_;
    for (double& v : mean) v /= static_cast<double>(rows);
    return mean;
  }
  double MeanSquaredNorm(std::int64_t rows) const { return squares_ / static_cast<double>(rows); }

 private:
  std::vector<double> sum_;
  double squares_ = 0;
  std::vector<float> decoded_;
};

bool IsHeldout(std::uint64_t seed, std::int64_t unit, double fraction) {
  return static_cast<double>(Xxh3(AsBytes(&unit, 1), seed)) < std::ldexp(fraction, 64);
}

}  // namespace

std::int64_t EstimateStoreBytes(const StoreWriterOptions& o, std::int64_t rows) {
  const std::int64_t values = (o.d + o.target_d) * SizeOf(o.dtype);
  const std::int64_t record = values + kColumnBytes;
  // Targets of the shard being written stand beside it until it ends.
  const std::int64_t waiting =
      std::min(rows, o.shard_bytes / values + 1) * o.target_d * SizeOf(o.dtype);
  const std::int64_t final_bytes =
      rows * record + (rows * values / o.shard_bytes + 2) * kShardOverhead + waiting;
  if (rows * (record + 8) <= o.memory_bytes / 2) return final_bytes + o.expected_text_bytes;
  // Buckets are removed as shards grow: at any time one copy of the rows, plus the bucket being
  // read. Keys of 8 bytes a row stand only in the buckets.
  return final_bytes + rows * 8 + final_bytes * 2 / BucketCount(o, rows, record + 8) +
         o.expected_text_bytes;
}

class StoreWriter::Impl {
 public:
  Impl(StoreWriterOptions options, Env& env, std::unique_ptr<PartialDirectory> partial)
      : options_(std::move(options)),
        env_(env),
        partial_(std::move(partial)),
        moments_(options_.d),
        target_moments_(options_.target_d) {}

  absl::Status Append(const StoreRows& rows);
  absl::Status AddText(const StoreText& text);
  absl::Status AddTensors(const std::string& name, const std::vector<TensorToWrite>& tensors);
  absl::StatusOr<StoreManifest> Finish();
  void Abandon() {
    texts_.reset();
    partial_.reset();
  }

  StoreWriterOptions options_;
  std::int64_t rows_ = 0;

 private:
  absl::Status CheckBatch(const StoreRows& rows, std::int64_t count);
  void Begin(const StoreRows& rows);
  absl::Status AppendRow(const StoreRows& rows, std::int64_t i);
  /// Into the record; `what` is for messages.
  absl::Status Encode(std::span<const float> values, const char* what, std::byte* out) const;
  absl::Status CheckUsable() const;
  absl::StatusOr<std::vector<StoreShard>> WriteSplit(ExternalSorter& sorter,
                                                     const std::string& prefix);
  absl::Status WriteFiles();
  void FillManifest();

  Env& env_;
  std::unique_ptr<PartialDirectory> partial_;
  std::unique_ptr<TextWriter> texts_;
  std::optional<RowLayout> layout_;
  std::optional<ExternalSorter> training_, heldout_;
  std::vector<std::byte> record_;
  Moments moments_, target_moments_;
  std::int64_t written_ = 0, to_write_ = 0;
  absl::Status failed_;
  StoreManifest manifest_;
};

absl::Status StoreWriter::Impl::CheckUsable() const {
  if (!failed_.ok()) return Annotate(failed_, "the store failed before");
  if (partial_ == nullptr)
    return absl::FailedPreconditionError("the store is finished or abandoned");
  return absl::OkStatus();
}

absl::Status StoreWriter::Impl::CheckBatch(const StoreRows& rows, std::int64_t count) {
  const auto size = static_cast<std::int64_t>(rows.activations.size());
  if (count * options_.d != size) {
    return absl::InvalidArgumentError(
        absl::StrCat(size, " values are not whole rows of d = ", options_.d));
  }
  if (const auto targets = static_cast<std::int64_t>(rows.targets.size());
      targets != count * options_.target_d) {
    return absl::InvalidArgumentError(absl::StrCat(targets, " values of targets for ", count,
                                                   " rows of target_d = ", options_.target_d));
  }
  const auto column = [&](std::span<const std::int32_t> values, bool wanted,
                          const char* name) -> absl::Status {
    const auto have = static_cast<std::int64_t>(values.size());
    if (have == (wanted ? count : 0)) return absl::OkStatus();
    return absl::InvalidArgumentError(
        absl::StrCat(name, " has ", have, " values for ", count, " rows",
                     wanted ? "" : ", and the batches before had none"));
  };
  SAE_RETURN_IF_ERROR(column(rows.token_ids, layout_->has_tokens, "token_ids"));
  SAE_RETURN_IF_ERROR(column(rows.positions, layout_->has_tokens, "positions"));
  return column(rows.documents, layout_->has_documents, "documents");
}

void StoreWriter::Impl::Begin(const StoreRows& rows) {
  layout_ = RowLayout{options_.d, options_.target_d, options_.dtype, !rows.token_ids.empty(),
                      !rows.documents.empty()};
  record_.resize(static_cast<std::size_t>(layout_->bytes()));
  const auto sorter = [&](const std::string& name, std::int64_t memory, std::int64_t expected) {
    ExternalSorterOptions o{partial_->path() + "/" + name, layout_->bytes(), memory, 0};
    if (options_.shuffled) {
      // A power of two of buckets: 2^64 / count is exact.
      o.bucket_width = (~std::uint64_t{0} / static_cast<std::uint64_t>(BucketCount(
                                                options_, expected, layout_->bytes() + 8))) +
                       1;
    } else {
      o.bucket_width =
          static_cast<std::uint64_t>(std::max<std::int64_t>(1, memory / (layout_->bytes() + 8)));
    }
    return o;
  };
  const std::int64_t heldout_memory =
      options_.heldout_fraction > 0 ? options_.memory_bytes / kHeldoutShare : 0;
  const auto expected_heldout = static_cast<std::int64_t>(
      options_.heldout_fraction * static_cast<double>(options_.expected_rows));
  training_.emplace(
      sorter("bucket-", options_.memory_bytes - heldout_memory, options_.expected_rows), env_);
  heldout_.emplace(sorter("heldout-bucket-", heldout_memory, expected_heldout), env_);
}

absl::Status StoreWriter::Impl::Encode(std::span<const float> values, const char* what,
                                       std::byte* out) const {
  const std::int64_t bad = EncodeValues(values, options_.dtype, out);
  if (bad < 0) return absl::OkStatus();
  const float value = values[static_cast<std::size_t>(bad)];
  return absl::InvalidArgumentError(absl::StrCat(
      "row ", rows_, ", column ", bad, " of the ", what, " is ", value,
      std::isfinite(value)
          ? absl::StrCat(", which does not fit ", StoreDTypeName(options_.dtype), ": use f32")
          : ": a store takes finite values only, drop the row or repair its source"));
}

absl::Status StoreWriter::Impl::AppendRow(const StoreRows& rows, std::int64_t i) {
  const auto d = static_cast<std::size_t>(options_.d);
  const auto at = static_cast<std::size_t>(i);
  const auto target_d = static_cast<std::size_t>(options_.target_d);
  const auto activation_bytes = static_cast<std::size_t>(layout_->activation_bytes());
  std::byte* const targets = record_.data() + activation_bytes;
  SAE_RETURN_IF_ERROR(Encode(rows.activations.subspan(at * d, d), "activations", record_.data()));
  SAE_RETURN_IF_ERROR(Encode(rows.targets.subspan(at * target_d, target_d), "targets", targets));
  std::size_t offset = activation_bytes + static_cast<std::size_t>(layout_->target_bytes());
  const auto put = [&](std::int32_t value) {
    std::memcpy(record_.data() + offset, &value, 4);
    offset += 4;
  };
  if (layout_->has_tokens) {
    put(rows.token_ids[at]);
    put(rows.positions[at]);
  }
  if (layout_->has_documents) put(rows.documents[at]);
  const std::uint64_t key = options_.shuffled
                                ? HashCounter(options_.seed, static_cast<std::uint64_t>(rows_))
                                : static_cast<std::uint64_t>(rows_);
  const std::int64_t unit = layout_->has_documents ? rows.documents[at] : rows_;
  ++rows_;
  if (IsHeldout(options_.seed, unit, options_.heldout_fraction)) return heldout_->Add(key, record_);
  // Statistics are of the values that training will see.
  moments_.Add(record_.data(), options_.dtype);
  if (target_d > 0) target_moments_.Add(targets, options_.dtype);
  return training_->Add(key, record_);
}

absl::Status StoreWriter::Impl::Append(const StoreRows& rows) {
  SAE_RETURN_IF_ERROR(CheckUsable());
  if (rows.activations.empty()) return absl::OkStatus();
  if (!layout_) Begin(rows);
  const std::int64_t count = static_cast<std::int64_t>(rows.activations.size()) / options_.d;
  failed_ = CheckBatch(rows, count);
  for (std::int64_t i = 0; i < count && failed_.ok(); ++i) failed_ = AppendRow(rows, i);
  return failed_;
}

absl::Status StoreWriter::Impl::AddText(const StoreText& text) {
  SAE_RETURN_IF_ERROR(CheckUsable());
  if (texts_ == nullptr) {
    SAE_ASSIGN_OR_RETURN(texts_, TextWriter::Create(env_, partial_->path() + "/" + kTextsFile));
  }
  failed_ = texts_->Add(text);
  return failed_;
}

absl::Status StoreWriter::Impl::AddTensors(const std::string& name,
                                           const std::vector<TensorToWrite>& tensors) {
  SAE_RETURN_IF_ERROR(CheckUsable());
  const std::string path = partial_->path() + "/" + name;
  auto hash = WriteSafetensors(env_, path, tensors);
  failed_ = hash.status();
  if (!failed_.ok()) return failed_;
  std::error_code ec;
  const auto bytes = static_cast<std::int64_t>(std::filesystem::file_size(path, ec));
  manifest_.extras.push_back(
      {name, static_cast<std::int64_t>(tensors.size()), bytes, HashToText(*hash)});
  return absl::OkStatus();
}

absl::StatusOr<std::vector<StoreShard>> StoreWriter::Impl::WriteSplit(ExternalSorter& sorter,
                                                                      const std::string& prefix) {
  ShardWriter writer(env_, partial_->path(), prefix, *layout_, sorter.count(),
                     options_.shard_bytes);
  constexpr std::int64_t kReportRows = 4096;
  SAE_RETURN_IF_ERROR(sorter.Drain([&](std::span<const std::byte> record) {
    if (++written_ % kReportRows == 0 && options_.progress) options_.progress(written_, to_write_);
    return writer.Add(record);
  }));
  return writer.shards();
}

void StoreWriter::Impl::FillManifest() {
  StoreManifest& m = manifest_;
  m.d = options_.d;
  m.target_d = options_.target_d;
  m.dtype = options_.dtype;
  m.rows = training_->count();
  m.heldout_rows = heldout_->count();
  m.heldout_fraction = options_.heldout_fraction;
  m.heldout_by = layout_->has_documents ? "document" : "row";
  m.order = options_.shuffled ? "shuffled" : "sequential";
  m.seed = options_.seed;
  m.has_tokens = layout_->has_tokens;
  m.has_documents = layout_->has_documents;
  m.source = options_.source;
  m.mean_squared_norm = moments_.MeanSquaredNorm(m.rows);
  m.mean = moments_.Mean(m.rows);
  if (m.target_d == 0) return;
  m.target_mean_squared_norm = target_moments_.MeanSquaredNorm(m.rows);
  m.target_mean = target_moments_.Mean(m.rows);
}

absl::Status StoreWriter::Impl::WriteFiles() {
  FillManifest();
  to_write_ = rows_;
  const std::int64_t on_disk = training_->spilled() ? rows_ * layout_->bytes() : 0;
  SAE_RETURN_IF_ERROR(RequireFreeBytes(
      env_, partial_->path(), EstimateStoreBytes(options_, rows_) - on_disk, "writing the store"));
  SAE_ASSIGN_OR_RETURN(manifest_.shards, WriteSplit(*training_, "shard"));
  SAE_ASSIGN_OR_RETURN(manifest_.heldout_shards, WriteSplit(*heldout_, "heldout"));
  if (texts_ != nullptr) {
    SAE_ASSIGN_OR_RETURN(manifest_.texts, texts_->Finish());
    manifest_.texts.file = kTextsFile;
  }
  if (options_.progress) options_.progress(rows_, rows_);
  return WriteFileAtomically(env_, partial_->path() + "/" + kManifestFile,
                             ManifestToJson(manifest_));
}

absl::StatusOr<StoreManifest> StoreWriter::Impl::Finish() {
  SAE_RETURN_IF_ERROR(CheckUsable());
  if (!training_ || training_->count() == 0) {
    failed_ = absl::InvalidArgumentError(
        rows_ == 0
            ? "no rows to store: the corpus is empty, or everything in it was dropped"
            : absl::StrCat("all ", rows_,
                           " rows are held out and none is left to train on: lower the held-out "
                           "fraction of ",
                           options_.heldout_fraction, ", or give more documents"));
  } else {
    failed_ = WriteFiles();
    if (failed_.ok()) failed_ = partial_->Commit();
  }
  Abandon();
  if (!failed_.ok()) return failed_;
  return manifest_;
}

StoreWriter::StoreWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
StoreWriter::~StoreWriter() = default;

absl::StatusOr<std::unique_ptr<StoreWriter>> StoreWriter::Create(StoreWriterOptions options,
                                                                 Env& env) {
  SAE_RETURN_IF_ERROR(CheckOptions(options));
  if (options.expected_rows > 0) {
    SAE_RETURN_IF_ERROR(
        RequireFreeBytes(env, options.directory, EstimateStoreBytes(options, options.expected_rows),
                         absl::StrCat("a store of ", options.expected_rows, " rows")));
  }
  SAE_ASSIGN_OR_RETURN(auto partial, PartialDirectory::Create(options.directory, env));
  return std::unique_ptr<StoreWriter>(
      new StoreWriter(std::make_unique<Impl>(std::move(options), env, std::move(partial))));
}

absl::Status StoreWriter::Append(const StoreRows& rows) { return impl_->Append(rows); }
absl::Status StoreWriter::AddText(const StoreText& text) { return impl_->AddText(text); }
absl::Status StoreWriter::AddTensors(const std::string& name,
                                     const std::vector<TensorToWrite>& tensors) {
  return impl_->AddTensors(name, tensors);
}
std::int64_t StoreWriter::rows() const { return impl_->rows_; }
StoreOrigin& StoreWriter::source() { return impl_->options_.source; }
absl::StatusOr<StoreManifest> StoreWriter::Finish() { return impl_->Finish(); }
void StoreWriter::Abandon() { impl_->Abandon(); }

}  // namespace sae::data
