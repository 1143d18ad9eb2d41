#include "sae/data/external_sorter.h"

#include <algorithm>
#include <cstring>

#include "sae/base/check.h"
#include "sae/data/raw_file.h"

namespace sae::data {
namespace {

struct Place {
  std::uint64_t key;
  std::int64_t ordinal;  ///< index of the record in its bucket
};

std::uint64_t KeyAt(const std::byte* record) {
  std::uint64_t key;
  std::memcpy(&key, record, sizeof key);
  return key;
}

void SortPlaces(std::vector<Place>& places) {
  std::sort(places.begin(), places.end(), [](const Place& a, const Place& b) {
    return a.key != b.key ? a.key < b.key : a.ordinal < b.ordinal;
  });
}

/// Calls fn(ordinal, bytes of key and record) for every record of a bucket file, in file order.
template <class F>
absl::Status ScanFile(const RawFile& file, std::int64_t stride, F&& fn) {
  const std::int64_t records = file.size() / stride;
  const std::int64_t step = std::max<std::int64_t>(1, (std::int64_t{1} << 20) / stride);
  std::vector<std::byte> buffer(static_cast<std::size_t>(step * stride));
  for (std::int64_t first = 0; first < records; first += step) {
    const std::int64_t n = std::min(step, records - first);
    SAE_RETURN_IF_ERROR(
        file.ReadAt(first * stride, {buffer.data(), static_cast<std::size_t>(n * stride)}));
    for (std::int64_t i = 0; i < n; ++i) fn(first + i, buffer.data() + i * stride);
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status ExternalSorter::Add(std::uint64_t key, std::span<const std::byte> record) {
  SAE_CHECK(static_cast<std::int64_t>(record.size()) == options_.record_bytes);
  auto& memory = buckets_[key / options_.bucket_width].memory;
  const auto* key_bytes = reinterpret_cast<const std::byte*>(&key);
  memory.insert(memory.end(), key_bytes, key_bytes + sizeof key);
  memory.insert(memory.end(), record.begin(), record.end());
  buffered_ += stride();
  ++count_;
  // Half of the budget: a vector that grows may hold twice what it stores.
  return buffered_ > options_.memory_bytes / 2 ? Spill() : absl::OkStatus();
}

absl::Status ExternalSorter::Spill() {
  spilled_ = true;
  for (auto& [index, bucket] : buckets_) {
    if (bucket.memory.empty()) continue;
    if (bucket.file.empty()) bucket.file = absl::StrCat(options_.file_prefix, index);
    SAE_ASSIGN_OR_RETURN(auto file, env_.OpenForAppend(bucket.file));
    SAE_RETURN_IF_ERROR(file->Append(bucket.memory));
    SAE_RETURN_IF_ERROR(file->Close());
    bucket.memory = {};
  }
  buffered_ = 0;
  return absl::OkStatus();
}

absl::Status ExternalSorter::Drain(const Visitor& visit) {
  // Once some is on disk all is: a bucket then has its rows in one place.
  if (spilled_) {
    SAE_RETURN_IF_ERROR(Spill());
  }
  while (!buckets_.empty()) {
    const auto it = buckets_.begin();
    SAE_RETURN_IF_ERROR(it->second.file.empty() ? DrainMemory(it->second, visit)
                                                : DrainFile(it->second, visit));
    buckets_.erase(it);
  }
  return absl::OkStatus();
}

absl::Status ExternalSorter::DrainMemory(const Bucket& bucket, const Visitor& visit) const {
  const std::int64_t records = static_cast<std::int64_t>(bucket.memory.size()) / stride();
  std::vector<Place> places(static_cast<std::size_t>(records));
  for (std::int64_t i = 0; i < records; ++i) {
    places[static_cast<std::size_t>(i)] = {KeyAt(bucket.memory.data() + i * stride()), i};
  }
  SortPlaces(places);
  for (const Place& p : places) {
    SAE_RETURN_IF_ERROR(visit({bucket.memory.data() + p.ordinal * stride() + 8,
                               static_cast<std::size_t>(options_.record_bytes)}));
  }
  return absl::OkStatus();
}

absl::Status ExternalSorter::DrainFile(Bucket& bucket, const Visitor& visit) const {
  {
    SAE_ASSIGN_OR_RETURN(const RawFile file, RawFile::Open(bucket.file));
    std::vector<Place> places;
    places.reserve(static_cast<std::size_t>(file.size() / stride()));
    SAE_RETURN_IF_ERROR(
        ScanFile(file, stride(), [&](std::int64_t ordinal, const std::byte* record) {
          places.push_back({KeyAt(record), ordinal});
        }));
    SortPlaces(places);
    // One scan a window of the sorted order: one in all where the bucket fits the budget.
    const auto window =
        static_cast<std::size_t>(std::max<std::int64_t>(1, options_.memory_bytes / stride()));
    const auto record_bytes = static_cast<std::size_t>(options_.record_bytes);
    std::vector<std::int64_t> slot(places.size());
    std::vector<std::byte> sorted(std::min(window, places.size()) * record_bytes);
    for (std::size_t first = 0; first < places.size(); first += window) {
      const std::size_t n = std::min(window, places.size() - first);
      std::fill(slot.begin(), slot.end(), -1);
      for (std::size_t i = 0; i < n; ++i) {
        slot[static_cast<std::size_t>(places[first + i].ordinal)] = static_cast<std::int64_t>(i);
      }
      SAE_RETURN_IF_ERROR(
          ScanFile(file, stride(), [&](std::int64_t ordinal, const std::byte* record) {
            const std::int64_t to = slot[static_cast<std::size_t>(ordinal)];
            if (to >= 0)
              std::memcpy(sorted.data() + static_cast<std::size_t>(to) * record_bytes, record + 8,
                          record_bytes);
          }));
      for (std::size_t i = 0; i < n; ++i) {
        SAE_RETURN_IF_ERROR(visit({sorted.data() + i * record_bytes, record_bytes}));
      }
    }
  }
  return env_.RemoveAll(bucket.file);
}

}  // namespace sae::data
