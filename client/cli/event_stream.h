#pragma once
// A server's stream read by a thread of its own, so that a watcher can also redraw and notice
// Ctrl-C. The queue is bounded: when it is full the thread waits and gRPC's flow control holds the
// sender back. Next is for one thread. Owns the thread; destruction cancels the call and joins.

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <thread>

#include <grpcpp/client_context.h>

#include "sae/base/mutex.h"
#include "saeloom/v1/sweep_service.grpc.pb.h"

namespace sae::cli {

template <class Message>
class EventStream {
 public:
  using Reader = grpc::ClientReaderInterface<Message>;
  /// `open` starts the call with the given context.
  explicit EventStream(const std::function<std::unique_ptr<Reader>(grpc::ClientContext&)>& open)
      : reader_(open(context_)), thread_([this] { Run(); }) {}
  ~EventStream() {
    {
      MutexLock lock(mu_);
      stopped_ = true;
      changed_.NotifyAll();
    }
    context_.TryCancel();
    thread_.join();
  }
  EventStream(const EventStream&) = delete;
  EventStream& operator=(const EventStream&) = delete;

  struct Item {
    std::optional<Message> message;
    std::optional<grpc::Status> end;  ///< after the last message
  };
  /// Neither is set when nothing came within `timeout`.
  Item Next(absl::Duration timeout) {
    MutexLock lock(mu_);
    if (queue_.empty() && !end_) changed_.WaitFor(mu_, timeout);
    Item item;
    if (!queue_.empty()) {
      item.message = std::move(queue_.front());
      queue_.pop_front();
      changed_.NotifyAll();
    } else {
      item.end = end_;
    }
    return item;
  }

 private:
  static constexpr std::size_t kCapacity = 1024;

  void Run() {
    Message message;
    while (reader_->Read(&message)) {
      MutexLock lock(mu_);
      while (queue_.size() >= kCapacity && !stopped_) changed_.Wait(mu_);
      queue_.push_back(std::move(message));
      changed_.NotifyAll();
    }
    const grpc::Status status = reader_->Finish();
    MutexLock lock(mu_);
    end_ = status;
    changed_.NotifyAll();
  }

  grpc::ClientContext context_;
  std::unique_ptr<Reader> reader_;
  Mutex mu_;
  CondVar changed_;
  std::deque<Message> queue_ ABSL_GUARDED_BY(mu_);
  std::optional<grpc::Status> end_ ABSL_GUARDED_BY(mu_);
  bool stopped_ ABSL_GUARDED_BY(mu_) = false;
  std::thread thread_;  // last: starts when all else is there
};

}  // namespace sae::cli
