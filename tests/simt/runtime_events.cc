// Events, captures and graphs of SimtRuntime.
#include <algorithm>

#include "sae/base/random.h"
#include "tests/simt/runtime.h"
#include "tests/simt/stream.h"

namespace sae::simt {
namespace {

absl::Status Unknown(absl::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat("not ", what, " of this runtime"));
}

}  // namespace

std::shared_ptr<Event> SimtRuntime::EventOf(void* handle) const {
  MutexLock lock(mu_);
  const auto it = events_.find(handle);
  return it == events_.end() ? nullptr : it->second;
}

absl::StatusOr<void*> SimtRuntime::CreateEvent() {
  auto event = std::make_shared<Event>();
  MutexLock lock(mu_);
  events_[event.get()] = event;
  return event.get();
}

void SimtRuntime::DestroyEvent(void* event) {
  MutexLock lock(mu_);
  events_.erase(event);
}

absl::Status SimtRuntime::RecordEvent(void* event, void* stream) {
  Stream* s = Stream::Of(stream);
  const std::shared_ptr<Event> e = EventOf(event);
  if (s == nullptr) return Unknown("a stream");
  if (e == nullptr) return Unknown("an event");
  SAE_RETURN_IF_ERROR(Failed());
  MutexLock lock(mu_);
  MutexLock event_lock(e->mu);
  e->capture = s->capture;
  if (s->capture != nullptr) {
    e->nodes = s->tail;
    return absl::OkStatus();
  }
  s->Push(
      [e, ticket = ++e->recorded](Executor&) {
        e->MarkDone(ticket);
        return std::string();
      },
      true);
  return absl::OkStatus();
}

absl::Status SimtRuntime::WaitEvent(void* stream, void* event) {
  Stream* s = Stream::Of(stream);
  const std::shared_ptr<Event> e = EventOf(event);
  if (s == nullptr) return Unknown("a stream");
  if (e == nullptr) return Unknown("an event");
  SAE_RETURN_IF_ERROR(Failed());
  MutexLock lock(mu_);
  MutexLock event_lock(e->mu);
  if (e->capture == nullptr) {
    if (s->capture != nullptr) {
      return absl::FailedPreconditionError(
          "wait: the stream is being captured, the event was recorded outside the capture");
    }
    s->Push(
        [e, ticket = e->recorded](Executor&) {
          e->WaitFor(ticket);
          return std::string();
        },
        true);
    return absl::OkStatus();
  }
  const bool going_on = std::any_of(captures_.begin(), captures_.end(), [&](const auto& capture) {
    return capture.get() == e->capture;
  });
  if (!going_on || (s->capture != nullptr && s->capture != e->capture)) {
    return absl::FailedPreconditionError("wait: the event was recorded in another capture");
  }
  if (s->capture == nullptr) {
    s->capture = e->capture;
    s->tail.clear();
    s->capture->streams.push_back(s);
  }
  for (const std::size_t node : e->nodes) {
    if (std::find(s->tail.begin(), s->tail.end(), node) == s->tail.end()) s->tail.push_back(node);
  }
  return absl::OkStatus();
}

absl::StatusOr<bool> SimtRuntime::QueryEvent(void* event) {
  const std::shared_ptr<Event> e = EventOf(event);
  if (e == nullptr) return Unknown("an event");
  SAE_RETURN_IF_ERROR(Failed());
  MutexLock lock(e->mu);
  if (e->capture != nullptr) {
    return absl::FailedPreconditionError("query: the event was recorded in a capture");
  }
  return e->done >= e->recorded;
}

absl::Status SimtRuntime::SynchronizeEvent(void* event) {
  const std::shared_ptr<Event> e = EventOf(event);
  if (e == nullptr) return Unknown("an event");
  std::int64_t ticket = 0;
  {
    MutexLock lock(e->mu);
    if (e->capture != nullptr) {
      return absl::FailedPreconditionError("synchronize: the event was recorded in a capture");
    }
    ticket = e->recorded;
  }
  e->WaitFor(ticket);
  return Failed();
}

absl::StatusOr<double> SimtRuntime::ElapsedMs(void* start, void* stop) {
  const std::shared_ptr<Event> from = EventOf(start), to = EventOf(stop);
  if (from == nullptr || to == nullptr) return Unknown("an event");
  std::chrono::steady_clock::time_point when[2];
  const std::shared_ptr<Event> events[2] = {from, to};
  for (int i = 0; i < 2; ++i) {
    Event& event = *events[i];
    MutexLock lock(event.mu);
    if (event.capture != nullptr || event.recorded == 0 || event.done < event.recorded) {
      return absl::FailedPreconditionError("elapsed time: an event is not done");
    }
    when[i] = event.when;
  }
  return std::chrono::duration<double, std::milli>(when[1] - when[0]).count();
}

absl::Status SimtRuntime::BeginCapture(void* stream) {
  Stream* s = Stream::Of(stream);
  if (s == nullptr) return Unknown("a stream");
  SAE_RETURN_IF_ERROR(NotCapturing("begin a capture"));
  SAE_RETURN_IF_ERROR(Failed());
  MutexLock lock(mu_);
  if (s->capture != nullptr) {
    return absl::FailedPreconditionError("begin a capture: the stream is being captured");
  }
  auto capture = std::make_unique<Capture>();
  capture->origin = s;
  capture->thread = std::this_thread::get_id();
  capture->streams = {s};
  s->capture = capture.get();
  s->tail.clear();
  captures_.push_back(std::move(capture));
  return absl::OkStatus();
}

absl::StatusOr<void*> SimtRuntime::EndCapture(void* stream) {
  Stream* s = Stream::Of(stream);
  if (s == nullptr) return Unknown("a stream");
  MutexLock lock(mu_);
  Capture* capture = s->capture;
  if (capture == nullptr || capture->origin != s) {
    return absl::FailedPreconditionError("end a capture: it did not begin on this stream");
  }
  auto graph = std::make_shared<Graph>(std::move(capture->graph));
  const bool joined = AllJoined(*graph, s->tail);
  for (Stream* other : capture->streams) {
    other->capture = nullptr;
    other->tail.clear();
  }
  captures_.erase(std::find_if(captures_.begin(), captures_.end(),
                               [&](const auto& c) { return c.get() == capture; }));
  if (!joined) {
    return absl::FailedPreconditionError(
        "end a capture: another stream's work was not joined by an event");
  }
  graphs_[graph.get()] = graph;
  return graph.get();
}

absl::Status SimtRuntime::LaunchGraph(void* graph, void* stream) {
  Stream* s = Stream::Of(stream);
  if (s == nullptr) return Unknown("a stream");
  std::shared_ptr<Graph> g;
  {
    MutexLock lock(mu_);
    const auto it = graphs_.find(graph);
    if (it != graphs_.end()) g = it->second;
  }
  if (g == nullptr) return Unknown("a graph");
  return Submit(*s, [g, seed = options_.executor.seed](Executor& executor) {
    return RunGraph(*g, seed, executor);
  });
}

void SimtRuntime::DestroyGraph(void* graph) {
  MutexLock lock(mu_);
  graphs_.erase(graph);
}

}  // namespace sae::simt
