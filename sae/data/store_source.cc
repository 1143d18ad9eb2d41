#include "sae/data/store_source.h"

#include <algorithm>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include "sae/base/mutex.h"

namespace sae::data {
namespace {

/// A window of a pass; as a pair it is ordered and comparable.
struct WindowId {
  std::int64_t pass = -1;
  std::int64_t window = -1;
  bool operator==(const WindowId&) const = default;
};

struct Window {
  WindowId id;
  absl::Status status;
  std::vector<std::byte> bytes;    ///< its extents end to end, as stored
  std::vector<std::byte> targets;  ///< of the same rows; empty where they are not wanted
  std::vector<Extent> extents;
  std::vector<std::int32_t> row_order;  ///< as PassOrder::RowOrder
  std::int64_t rows = 0;
};

}  // namespace

class StoreSource::Impl {
 public:
  Impl(std::shared_ptr<const ActivationStore> store, std::uint64_t seed, PassOrderOptions options,
       RowKind kind)
      : store_(std::move(store)), seed_(seed), options_(options), kind_(kind) {
    for (const StoreShard& shard : store_->shards(Split::kTraining))
      shard_rows_.push_back(shard.rows);
    reader_ = std::thread([this] { ReadAhead(); });
  }

  ~Impl() {
    {
      MutexLock lock(mu_);
      stop_ = true;
    }
    changed_.NotifyAll();
    reader_.join();
  }

  absl::Status Next(std::span<float> out);
  absl::Status Seek(std::int64_t position);
  std::int64_t position() const { return position_; }
  std::int64_t d() const { return store_->width(kind_); }

 private:
  PassOrder Order(std::int64_t pass) const {
    return PassOrder(shard_rows_, store_->row_bytes(), seed_, pass, options_);
  }
  /// The order of a pass, remembered: `next_` is at most one pass ahead.
  const PassOrder& OrderOf(std::int64_t pass) {
    if (!order_ || order_pass_ != pass) {
      order_.emplace(Order(pass));
      order_pass_ = pass;
    }
    return *order_;
  }
  WindowId After(WindowId id) {
    return id.window + 1 < OrderOf(id.pass).windows() ? WindowId{id.pass, id.window + 1}
                                                      : WindowId{id.pass + 1, 0};
  }
  Window Load(WindowId id, const PassOrder& order) const;
  absl::Status LoadTensor(const Window& window, StoreTensor tensor,
                          std::vector<std::byte>& bytes) const;
  void ReadAhead();
  /// Makes `id` the current window and asks for the one after it.
  absl::Status Enter(WindowId id);
  absl::Status CopyRow(std::int64_t index, std::span<float> out) const;

  const std::shared_ptr<const ActivationStore> store_;
  const std::uint64_t seed_;
  const PassOrderOptions options_;
  const RowKind kind_;
  std::vector<std::int64_t> shard_rows_;

  // The caller's side.
  std::optional<PassOrder> order_;
  std::int64_t order_pass_ = -1;
  std::int64_t position_ = 0;
  Window current_;
  std::int64_t cursor_ = 0;  ///< rows of current_ that were delivered

  Mutex mu_;
  CondVar changed_;
  bool stop_ ABSL_GUARDED_BY(mu_) = false;
  std::optional<WindowId> wanted_ ABSL_GUARDED_BY(mu_);
  std::optional<Window> ready_ ABSL_GUARDED_BY(mu_);
  std::thread reader_;  ///< last: starts when the rest is there
};

Window StoreSource::Impl::Load(WindowId id, const PassOrder& order) const {
  Window w;
  w.id = id;
  const auto extents = order.Extents(id.window);
  w.extents.assign(extents.begin(), extents.end());
  w.rows = order.WindowRows(id.window);
  w.row_order = order.RowOrder(id.window);
  w.status = store_->CheckHas(kind_);
  if (w.status.ok()) w.status = LoadTensor(w, StoreTensor::kActivations, w.bytes);
  if (w.status.ok() && kind_ == RowKind::kWithTargets) {
    w.status = LoadTensor(w, StoreTensor::kTargets, w.targets);
  }
  return w;
}

absl::Status StoreSource::Impl::LoadTensor(const Window& window, StoreTensor tensor,
                                           std::vector<std::byte>& bytes) const {
  const std::int64_t row = store_->row_bytes(tensor);
  bytes.resize(static_cast<std::size_t>(window.rows * row));
  std::span<std::byte> rest = bytes;
  for (const Extent& e : window.extents) {
    const auto n = static_cast<std::size_t>(e.rows * row);
    SAE_RETURN_IF_ERROR(
        store_->ReadShardBytes(Split::kTraining, e.shard, e.first_row, rest.first(n), tensor));
    rest = rest.subspan(n);
  }
  return absl::OkStatus();
}

void StoreSource::Impl::ReadAhead() {
  std::optional<PassOrder> order;
  std::int64_t order_pass = -1;
  while (true) {
    WindowId id;
    {
      MutexLock lock(mu_);
      while (!stop_ && !wanted_) changed_.Wait(mu_);
      if (stop_) return;
      id = *wanted_;
    }
    if (!order || order_pass != id.pass) {
      order.emplace(Order(id.pass));
      order_pass = id.pass;
    }
    Window w = Load(id, *order);
    {
      MutexLock lock(mu_);
      if (wanted_ == id) {  // a Seek may have asked for another one meanwhile
        wanted_.reset();
        ready_ = std::move(w);
      }
    }
    changed_.NotifyAll();
  }
}

absl::Status StoreSource::Impl::Enter(WindowId id) {
  const WindowId next = After(id);
  {
    MutexLock lock(mu_);
    if (!(ready_ && ready_->id == id) && wanted_ != id) {
      ready_.reset();
      wanted_ = id;
      changed_.NotifyAll();
    }
    while (!(ready_ && ready_->id == id)) changed_.Wait(mu_);
    current_ = *std::move(ready_);
    ready_.reset();
    wanted_ = next;
  }
  changed_.NotifyAll();
  cursor_ = 0;
  return current_.status;
}

absl::Status StoreSource::Impl::CopyRow(std::int64_t index, std::span<float> out) const {
  const std::int64_t row =
      current_.row_order.empty() ? index : current_.row_order[static_cast<std::size_t>(index)];
  std::int64_t in_extent = row;
  auto extent = current_.extents.begin();
  for (; in_extent >= extent->rows; ++extent) in_extent -= extent->rows;
  const auto decode = [&](StoreTensor tensor, const std::vector<std::byte>& bytes,
                          std::span<float> values) {
    const auto n = static_cast<std::size_t>(store_->row_bytes(tensor));
    return store_->Decode(Split::kTraining, extent->shard, extent->first_row + in_extent,
                          std::span(bytes).subspan(static_cast<std::size_t>(row) * n, n), values,
                          tensor);
  };
  const auto width = static_cast<std::size_t>(store_->d());
  SAE_RETURN_IF_ERROR(decode(StoreTensor::kActivations, current_.bytes, out.first(width)));
  if (kind_ == RowKind::kActivations) return absl::OkStatus();
  return decode(StoreTensor::kTargets, current_.targets, out.subspan(width));
}

absl::Status StoreSource::Impl::Next(std::span<float> out) {
  if (static_cast<std::int64_t>(out.size()) % d() != 0) {
    return absl::InvalidArgumentError(
        absl::StrCat("a batch of ", out.size(), " values is not whole rows of ", d()));
  }
  const auto width = static_cast<std::size_t>(d());
  for (; !out.empty(); out = out.subspan(width)) {
    if (current_.id.pass < 0) {
      SAE_RETURN_IF_ERROR(Seek(position_));
    } else if (cursor_ == current_.rows) {
      SAE_RETURN_IF_ERROR(Enter(After(current_.id)));
    }
    SAE_RETURN_IF_ERROR(current_.status);
    SAE_RETURN_IF_ERROR(CopyRow(cursor_, out.first(width)));
    ++cursor_;
    ++position_;
  }
  return absl::OkStatus();
}

absl::Status StoreSource::Impl::Seek(std::int64_t position) {
  if (position < 0)
    return absl::InvalidArgumentError(absl::StrCat("cannot seek to row ", position));
  const std::int64_t rows = store_->rows(Split::kTraining);
  const std::int64_t pass = position / rows, in_pass = position % rows;
  const PassOrder& order = OrderOf(pass);
  const WindowId id{pass, order.WindowAt(in_pass)};
  const std::int64_t cursor = in_pass - order.WindowFirst(id.window);
  position_ = position;
  if (!(current_.id == id) || !current_.status.ok()) {
    SAE_RETURN_IF_ERROR(Enter(id));
  }
  cursor_ = cursor;
  return current_.status;
}

StoreSource::StoreSource(std::shared_ptr<const ActivationStore> store, std::uint64_t data_seed,
                         PassOrderOptions options, RowKind kind)
    : impl_(std::make_unique<Impl>(std::move(store), data_seed, options, kind)) {}
StoreSource::~StoreSource() = default;
std::int64_t StoreSource::d() const { return impl_->d(); }
absl::Status StoreSource::Next(std::span<float> rows) { return impl_->Next(rows); }
std::int64_t StoreSource::Position() const { return impl_->position(); }
absl::Status StoreSource::Seek(std::int64_t position) { return impl_->Seek(position); }

}  // namespace sae::data
