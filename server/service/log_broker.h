#pragma once
// Log tails on their way from a worker to a reader: a TailLogs stream becomes a FetchLogs command
// on the worker's session, and what the worker pushes back goes to the stream. A reader that is too
// slow loses text, and is told so. All members run on the core's thread.

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "saeloom/v1/sweep_service.pb.h"
#include "server/service/session_hub.h"
#include "server/service/sink.h"

namespace sae::server {

class LogBroker {
 public:
  using Out = Sink<saeloom::v1::LogChunk>;
  explicit LogBroker(SessionHub& sessions) : sessions_(sessions) {}

  void Add(Core& core, std::int64_t id, const saeloom::v1::TailLogsRequest& request,
           std::shared_ptr<Out> out);
  void Hungry(std::int64_t id);
  /// The reader has gone: the worker is told to stop following.
  void Remove(Core& core, std::int64_t id);
  /// What a worker pushes.
  void Receive(Core& core, const std::string& worker, const saeloom::v1::ReportBatchRequest& batch);
  /// Ends streams whose worker has gone.
  void Poll(Core& core);
  void Drain();

 private:
  struct Reader {
    std::string worker;
    std::string incarnation;
    int attempt = 0;
    bool hungry = true;
    bool end = false;
    std::size_t bytes = 0;
    std::size_t dropped = 0;
    std::vector<saeloom::v1::LogChunk> waiting;
    std::shared_ptr<Out> out;  // shared with what carries it, which may end at any time
  };
  static void Flush(Reader& reader);
  void Cancel(Core& core, std::int64_t id, const std::string& worker);

  SessionHub& sessions_;
  std::map<std::int64_t, Reader> readers_;
  bool draining_ = false;
};

}  // namespace sae::server
