#pragma once
// A server-streaming RPC fed in batches from another thread: one write in flight, at most one batch
// held, so a reader that does not read costs one batch. Lives until gRPC's OnDone, then frees
// itself; others hold it by shared_ptr. Thread-safe.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/server_callback.h>
#include <grpcpp/support/slice.h>

#include "sae/base/mutex.h"
#include "server/service/sink.h"
#include "server/service/unary_call.h"

namespace sae::server {

/// What goes on the wire of what a sink is given.
template <typename T>
T ToWire(T message) {
  return message;
}
/// Bytes that other streams share: not copied, kept as long as gRPC needs them.
inline grpc::ByteBuffer ToWire(std::shared_ptr<const std::string> bytes) {
  using Kept = std::shared_ptr<const std::string>;
  auto* kept = new Kept(std::move(bytes));
  const grpc::Slice slice(
      const_cast<char*>((*kept)->data()), (*kept)->size(),  // gRPC reads it only
      [](void* user) { delete static_cast<Kept*>(user); }, kept);
  return grpc::ByteBuffer(&slice, 1);
}

/// T: what it is given; Wire: what gRPC writes.
template <typename T, typename Wire = T>
class StreamWriter final : public grpc::ServerWriteReactor<Wire>, public Sink<T> {
 public:
  /// `hungry` is called when all that was given is written; `gone` once, at the end. Both from
  /// gRPC's threads, without locks held: they must only post.
  static std::shared_ptr<StreamWriter> Make(std::function<void()> hungry,
                                            std::function<void(grpc::StatusCode)> gone) {
    std::shared_ptr<StreamWriter> writer(new StreamWriter(std::move(hungry), std::move(gone)));
    writer->self_ = writer;
    return writer;
  }

  void Give(std::vector<T> batch) override {
    {
      MutexLock lock(mu_);
      if (ended_ || cancelled_) return;
      std::move(batch.begin(), batch.end(), std::back_inserter(batch_));
    }
    Pump();
  }
  void End(const absl::Status& status) override {
    {
      MutexLock lock(mu_);
      if (ended_) return;
      ended_ = true;
      status_ = ToGrpc(status);
    }
    Pump();
  }

  void OnWriteDone(bool ok) override {
    bool hungry = false;
    {
      MutexLock lock(mu_);
      writing_ = false;
      if (!ok) cancelled_ = true;
      hungry = !cancelled_ && !ended_ && next_ == batch_.size();
      if (next_ == batch_.size()) {
        batch_.clear();
        next_ = 0;
      }
    }
    if (hungry) hungry_();
    Pump();
  }
  void OnCancel() override {
    {
      MutexLock lock(mu_);
      cancelled_ = true;
    }
    Pump();
  }
  void OnDone() override {
    std::shared_ptr<StreamWriter> self;  // freed at the end, unless others hold it
    grpc::StatusCode code = grpc::StatusCode::CANCELLED;
    {
      MutexLock lock(mu_);
      self = std::move(self_);
      if (!cancelled_) code = status_.error_code();
    }
    gone_(code);
  }

 private:
  StreamWriter(std::function<void()> hungry, std::function<void(grpc::StatusCode)> gone)
      : hungry_(std::move(hungry)), gone_(std::move(gone)) {}

  void Pump() {
    const Wire* message = nullptr;
    bool finish = false;
    grpc::Status status;
    {
      MutexLock lock(mu_);
      if (writing_ || finished_) return;
      if (cancelled_ || (ended_ && next_ == batch_.size())) {
        finished_ = finish = true;
        status =
            cancelled_ ? grpc::Status(grpc::StatusCode::CANCELLED, "the reader has gone") : status_;
      } else if (next_ < batch_.size()) {
        // A message must not move while it is written, and Give may grow the vector meanwhile.
        current_ = ToWire(std::move(batch_[next_++]));
        message = &current_;
        writing_ = true;
      }
    }
    // Without the lock: gRPC may run a reaction inside the call.
    if (message != nullptr) {
      // Without a buffer hint: gRPC reports such a write done when a later one is flushed, and that
      // one would wait for this report.
      this->StartWrite(message);
    } else if (finish) {
      this->Finish(status);
    }
  }

  const std::function<void()> hungry_;
  const std::function<void(grpc::StatusCode)> gone_;
  std::shared_ptr<StreamWriter> self_;  // gRPC's share of the ownership
  Mutex mu_;
  std::vector<T> batch_ ABSL_GUARDED_BY(mu_);
  std::size_t next_ ABSL_GUARDED_BY(mu_) = 0;
  Wire current_;  // written by Pump under mu_, read by gRPC while writing_
  bool writing_ ABSL_GUARDED_BY(mu_) = false;
  bool ended_ ABSL_GUARDED_BY(mu_) = false;
  bool cancelled_ ABSL_GUARDED_BY(mu_) = false;
  bool finished_ ABSL_GUARDED_BY(mu_) = false;
  grpc::Status status_ ABSL_GUARDED_BY(mu_);
};

}  // namespace sae::server
