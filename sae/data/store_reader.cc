#include "sae/data/store_reader.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <numeric>

#include "sae/base/env.h"
#include "sae/base/hash.h"
#include "sae/base/safetensors.h"
#include "sae/data/raw_file.h"
#include "sae/data/row_codec.h"

namespace sae::data {
namespace {

/// The tensor `name` of a shard, with the dtype and shape that the manifest promises.
absl::StatusOr<TensorView> CheckedTensor(const SafetensorsReader& reader, const std::string& name,
                                         DType dtype, const std::vector<std::int64_t>& shape) {
  auto view = reader.Get(name);
  if (!view.ok()) return absl::DataLossError(Message(view.status()));
  if (view->dtype != dtype || view->shape != shape) {
    std::string have, want;
    for (const auto s : view->shape) absl::StrAppend(&have, have.empty() ? "" : " x ", s);
    for (const auto s : shape) absl::StrAppend(&want, want.empty() ? "" : " x ", s);
    return absl::DataLossError(
        absl::StrCat(reader.path(), ": tensor '", name, "' at offset ", view->file_offset, " is ",
                     have, " of ", SizeOf(view->dtype), "-byte values, the manifest promises ",
                     want, " ", dtype == DType::kI32 ? "i32" : StoreDTypeName(dtype)));
  }
  return *view;
}

}  // namespace

absl::StatusOr<std::unique_ptr<ActivationStore>> ActivationStore::Open(const std::string& directory,
                                                                       StoreVerify verify) {
  std::unique_ptr<ActivationStore> store(new ActivationStore);
  store->directory_ = directory;
  const std::string path = directory + "/" + kManifestFile;
  auto json = RealEnv().Read(path);
  if (!json.ok())
    return Annotate(json.status(), absl::StrCat(directory, " is not an activation store"));
  store->manifest_hash_ = HashToText(Xxh3(*json));
  SAE_ASSIGN_OR_RETURN(store->manifest_, ManifestFromJson(*json, path));
  const StoreManifest& m = store->manifest_;
  store->layout_ = RowLayout{m.d, m.target_d, m.dtype, m.has_tokens, m.has_documents};
  SAE_RETURN_IF_ERROR(store->OpenSplit(Split::kTraining, store->training_));
  SAE_RETURN_IF_ERROR(store->OpenSplit(Split::kHeldout, store->heldout_));
  if (verify == StoreVerify::kAtOpen) {
    for (const Split split : {Split::kTraining, Split::kHeldout}) {
      for (const auto& shard : store->files(split)) SAE_RETURN_IF_ERROR(store->VerifyShard(*shard));
    }
    SAE_RETURN_IF_ERROR(store->VerifyOthers());
  }
  return store;
}

absl::Status ActivationStore::OpenSplit(Split split,
                                        std::vector<std::unique_ptr<ShardFile>>& files) {
  std::int64_t first_row = 0;
  for (const StoreShard& shard : shards(split)) {
    auto file = std::make_unique<ShardFile>();
    file->path = directory_ + "/" + shard.file;
    auto reader = SafetensorsReader::Open(file->path);
    if (absl::IsInvalidArgument(reader.status()))
      return absl::DataLossError(Message(reader.status()));
    SAE_RETURN_IF_ERROR(reader.status());
    SAE_ASSIGN_OR_RETURN(
        const TensorView rows,
        CheckedTensor(**reader, "activations", manifest_.dtype, {shard.rows, manifest_.d}));
    if (target_d() > 0) {
      SAE_ASSIGN_OR_RETURN(
          const TensorView targets,
          CheckedTensor(**reader, "targets", manifest_.dtype, {shard.rows, target_d()}));
      file->target_offset = targets.file_offset;
    }
    for (const auto& column : layout_.columns()) {
      SAE_RETURN_IF_ERROR(CheckedTensor(**reader, column, DType::kI32, {shard.rows}).status());
    }
    file->first_row = first_row;
    file->rows = shard.rows;
    file->data_offset = rows.file_offset;
    file->hash = shard.hash;
    first_row += shard.rows;
    files.push_back(std::move(file));
  }
  return absl::OkStatus();
}

absl::Status ActivationStore::VerifyShard(const ShardFile& shard) const {
  if (shard.verified.load(std::memory_order_acquire)) return absl::OkStatus();
  SAE_ASSIGN_OR_RETURN(const std::string hash, HashFile(shard.path));
  std::error_code ec;
  if (hash != shard.hash) {
    return absl::DataLossError(
        absl::StrCat(shard.path, ": bytes 0 to ", std::filesystem::file_size(shard.path, ec),
                     " hash to ", hash, ", the manifest promises ", shard.hash,
                     ": the file was changed or damaged, copy or make the store again"));
  }
  shard.verified.store(true, std::memory_order_release);
  return absl::OkStatus();
}

absl::Status ActivationStore::VerifyOthers() const {
  std::vector<StoreShard> others = manifest_.extras;
  if (!manifest_.texts.file.empty()) others.push_back(manifest_.texts);
  for (const StoreShard& other : others) {
    ShardFile file;
    file.path = directory_ + "/" + other.file;
    file.hash = other.hash;
    SAE_RETURN_IF_ERROR(VerifyShard(file));
  }
  return absl::OkStatus();
}

absl::Status ActivationStore::CheckRange(Split split, std::int64_t first,
                                         std::int64_t count) const {
  if (first >= 0 && count >= 0 && first <= rows(split) - count) return absl::OkStatus();
  return absl::OutOfRangeError(absl::StrCat(
      directory_, ": rows ", first, " to ", first + count, " of the ",
      split == Split::kTraining ? "training" : "held-out", " rows, there are ", rows(split)));
}

absl::Status ActivationStore::ForEachPart(
    Split split, std::int64_t first, std::int64_t count,
    const std::function<absl::Status(std::int64_t, std::int64_t, std::int64_t, std::int64_t)>& fn)
    const {
  SAE_RETURN_IF_ERROR(CheckRange(split, first, count));
  const auto& all = files(split);
  auto it =
      std::upper_bound(all.begin(), all.end(), first,
                       [](std::int64_t row, const auto& shard) { return row < shard->first_row; });
  if (it != all.begin()) --it;
  for (std::int64_t done = 0; done < count; ++it) {
    const std::int64_t from = first + done - (*it)->first_row;
    const std::int64_t n = std::min(count - done, (*it)->rows - from);
    SAE_RETURN_IF_ERROR(fn(it - all.begin(), from, n, done));
    done += n;
  }
  return absl::OkStatus();
}

absl::Status ActivationStore::ReadShardBytes(Split split, std::int64_t shard,
                                             std::int64_t first_row, std::span<std::byte> out,
                                             StoreTensor tensor) const {
  const ShardFile& s = *files(split)[static_cast<std::size_t>(shard)];
  if (first_row < 0 ||
      first_row + static_cast<std::int64_t>(out.size()) / row_bytes(tensor) > s.rows) {
    return absl::OutOfRangeError(
        absl::StrCat(s.path, ": rows from ", first_row, " on, it has ", s.rows));
  }
  SAE_RETURN_IF_ERROR(VerifyShard(s));
  SAE_ASSIGN_OR_RETURN(const RawFile file, RawFile::Open(s.path));
  return file.ReadAt(s.offset(tensor) + first_row * row_bytes(tensor), out);
}

absl::Status ActivationStore::Decode(Split split, std::int64_t shard, std::int64_t first_row,
                                     std::span<const std::byte> bytes, std::span<float> out,
                                     StoreTensor tensor) const {
  const std::int64_t bad = DecodeValues(bytes.data(), manifest_.dtype, out);
  if (bad < 0) return absl::OkStatus();
  const ShardFile& s = *files(split)[static_cast<std::size_t>(shard)];
  const std::int64_t row = first_row + bad / tensor_width(tensor);
  const std::int64_t column = bad % tensor_width(tensor);
  return absl::DataLossError(absl::StrCat(
      s.path, ": row ", row, ", column ", column,
      tensor == StoreTensor::kTargets ? " of the targets" : "", " (offset ",
      s.offset(tensor) + row * row_bytes(tensor) + column * SizeOf(manifest_.dtype), ") is ",
      out[static_cast<std::size_t>(bad)], ": a store holds finite values only, make it again"));
}

absl::Status ActivationStore::CheckHas(RowKind kind) const {
  if (kind == RowKind::kActivations || target_d() > 0) return absl::OkStatus();
  return absl::FailedPreconditionError(
      absl::StrCat(directory_, " has no targets: a transcoder needs a store made with `saeloom ",
                   "harvest --hook HOOK --target-hook HOOK`"));
}

absl::Status ActivationStore::ReadPart(Split split, std::int64_t shard, std::int64_t from,
                                       std::int64_t n, StoreTensor tensor, float* out,
                                       std::int64_t stride) const {
  const std::int64_t columns = tensor_width(tensor), bytes_a_row = row_bytes(tensor);
  std::vector<std::byte> bytes(static_cast<std::size_t>(n * bytes_a_row));
  SAE_RETURN_IF_ERROR(ReadShardBytes(split, shard, from, bytes, tensor));
  if (stride == columns) {
    return Decode(split, shard, from, bytes, {out, static_cast<std::size_t>(n * columns)}, tensor);
  }
  for (std::int64_t i = 0; i < n; ++i) {
    SAE_RETURN_IF_ERROR(Decode(split, shard, from + i,
                               std::span(bytes).subspan(static_cast<std::size_t>(i * bytes_a_row),
                                                        static_cast<std::size_t>(bytes_a_row)),
                               {out + i * stride, static_cast<std::size_t>(columns)}, tensor));
  }
  return absl::OkStatus();
}

absl::Status ActivationStore::ReadRows(Split split, std::int64_t first, std::span<float> out,
                                       RowKind kind) const {
  SAE_RETURN_IF_ERROR(CheckHas(kind));
  const std::int64_t row = width(kind);
  if (static_cast<std::int64_t>(out.size()) % row != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a buffer of ", out.size(), " values is not whole rows of ",
                     kind == RowKind::kActivations ? "d = " : "d + target_d = ", row));
  }
  const std::int64_t count = static_cast<std::int64_t>(out.size()) / row;
  return ForEachPart(
      split, first, count,
      [&](std::int64_t shard, std::int64_t from, std::int64_t n, std::int64_t done) {
        float* const at = out.data() + done * row;
        SAE_RETURN_IF_ERROR(ReadPart(split, shard, from, n, StoreTensor::kActivations, at, row));
        if (kind == RowKind::kActivations) return absl::OkStatus();
        return ReadPart(split, shard, from, n, StoreTensor::kTargets, at + d(), row);
      });
}

absl::Status ActivationStore::ReadColumn(Split split, const std::string& column, std::int64_t first,
                                         std::span<std::int32_t> out) const {
  const auto columns = layout_.columns();
  const auto found = std::find(columns.begin(), columns.end(), column);
  if (found == columns.end()) {
    return absl::NotFoundError(absl::StrCat(
        directory_, " has no ", column, ": it was made from activations alone; harvest adds them"));
  }
  // Columns stand in this order behind the activations.
  const std::int64_t index = found - columns.begin();
  return ForEachPart(split, first, static_cast<std::int64_t>(out.size()),
                     [&](std::int64_t shard, std::int64_t from, std::int64_t n,
                         std::int64_t done) -> absl::Status {
                       const ShardFile& s = *files(split)[static_cast<std::size_t>(shard)];
                       SAE_RETURN_IF_ERROR(VerifyShard(s));
                       SAE_ASSIGN_OR_RETURN(const auto reader, SafetensorsReader::Open(s.path));
                       SAE_ASSIGN_OR_RETURN(
                           const TensorView view,
                           CheckedTensor(*reader, columns[static_cast<std::size_t>(index)],
                                         DType::kI32, {s.rows}));
                       std::memcpy(out.data() + done, view.data.data() + 4 * from,
                                   static_cast<std::size_t>(4 * n));
                       return absl::OkStatus();
                     });
}

absl::Status ActivationStore::ReadTexts(const std::function<bool(StoreText)>& visit) const {
  if (manifest_.texts.file.empty()) {
    return absl::NotFoundError(absl::StrCat(
        directory_, " has no texts: it was made from activations alone; harvest adds them"));
  }
  return data::ReadTexts(directory_ + "/" + manifest_.texts.file, visit);
}

absl::Status ActivationStore::VerifyAll(const Progress& progress) const {
  std::int64_t total = manifest_.texts.bytes;
  for (const Split split : {Split::kTraining, Split::kHeldout}) {
    for (const StoreShard& s : shards(split)) total += s.bytes;
  }
  std::int64_t done = 0;
  const RowKind kind = target_d() > 0 ? RowKind::kWithTargets : RowKind::kActivations;
  const auto row = static_cast<std::size_t>(width(kind));
  const std::int64_t bytes_a_row = row_bytes() + row_bytes(StoreTensor::kTargets);
  // Of the columns of [x | y].
  std::vector<double> sum(row, 0.0), squares(row, 0.0);
  const std::int64_t block = std::max<std::int64_t>(1, (std::int64_t{4} << 20) / bytes_a_row);
  std::vector<float> rows_buffer;
  for (const Split split : {Split::kTraining, Split::kHeldout}) {
    for (std::int64_t first = 0; first < rows(split); first += block) {
      const std::int64_t n = std::min(block, rows(split) - first);
      rows_buffer.resize(static_cast<std::size_t>(n) * row);
      SAE_RETURN_IF_ERROR(ReadRows(split, first, rows_buffer, kind));
      done += n * bytes_a_row;
      if (progress) progress(done, total);
      if (split == Split::kHeldout) continue;
      for (std::size_t i = 0; i < rows_buffer.size(); ++i) {
        const double v = rows_buffer[i];
        sum[i % row] += v;
        squares[i % row] += v * v;
      }
    }
  }
  SAE_RETURN_IF_ERROR(VerifyOthers());
  if (progress) progress(total, total);
  const auto inputs = static_cast<std::size_t>(d());
  const std::span<const double> sums(sum), both(squares);
  SAE_RETURN_IF_ERROR(CheckStatistics("", manifest_.mean, manifest_.mean_squared_norm,
                                      sums.first(inputs), both.first(inputs)));
  if (target_d() == 0) return absl::OkStatus();
  return CheckStatistics("target_", manifest_.target_mean, manifest_.target_mean_squared_norm,
                         sums.subspan(inputs), both.subspan(inputs));
}

absl::Status ActivationStore::CheckStatistics(const std::string& prefix,
                                              const std::vector<double>& mean,
                                              double mean_squared_norm,
                                              std::span<const double> sums,
                                              std::span<const double> squares) const {
  const auto n = static_cast<double>(manifest_.rows);
  const double found = std::accumulate(squares.begin(), squares.end(), 0.0) / n;
  const double scale = std::sqrt(std::max(found, 1e-300));
  bool same = std::abs(found - mean_squared_norm) <= 1e-9 * found;
  for (std::size_t c = 0; c < sums.size(); ++c)
    same = same && std::abs(sums[c] / n - mean[c]) <= 1e-9 * scale;
  if (same) return absl::OkStatus();
  return absl::DataLossError(absl::StrCat(directory_, "/", kManifestFile, ": ", prefix, "mean or ",
                                          prefix, "mean_squared_norm are not those of the rows (",
                                          found, " against ", mean_squared_norm,
                                          "): make the store again"));
}

}  // namespace sae::data
