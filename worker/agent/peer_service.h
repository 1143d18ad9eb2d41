#pragma once
// The side of a gang over several workers that its head calls: runs MPI's daemon here, under a
// reservation, with the environment that this worker gives its ranks. A command's whole session,
// and whatever carries its marks, is ended when the stream breaks or the reservation ends; should
// this process die, the guard around the command does it. Thread-safe. Owns the server and its
// threads; borrows the rest.

#include <map>
#include <memory>
#include <string>

#include <grpcpp/security/server_credentials.h>
#include <grpcpp/server.h>

#include "sae/base/process.h"
#include "sae/base/procfs.h"
#include "saeloom/v1/peer_service.grpc.pb.h"
#include "worker/agent/gang.h"
#include "worker/agent/reservations.h"

namespace saeloom::agent {

class PeerService final : public v1::PeerService::Service {
 public:
  struct Options {
    sae::Clock* clock = nullptr;
    Reservations* reservations = nullptr;
    GangOptions gang;  ///< environment of gangs; mpirun's folder, where orted is; rsh
    std::string runs_id;
    std::string worker_id;  ///< marks what runs here for others
    int threads = 1;        ///< of each rank
    std::string trust_domain;  ///< of peers' certificates; "" = none are asked for
  };
  explicit PeerService(Options options) : options_(std::move(options)) {}
  ~PeerService() override { Stop(); }

  /// Listens on HOST:PORT (port 0 = any free one) and returns the port. UNAVAILABLE, naming the
  /// address.
  [[nodiscard]] absl::StatusOr<int> Start(
      const std::string& listen, const std::shared_ptr<grpc::ServerCredentials>& credentials);
  /// Ends every command; idempotent.
  void Stop();

  grpc::Status Exec(grpc::ServerContext* context,
                    grpc::ServerReaderWriter<v1::ExecReply, v1::ExecRequest>* stream) override;

 private:
  using Stream = grpc::ServerReaderWriter<v1::ExecReply, v1::ExecRequest>;
  sae::ProcessSpec Command(const v1::ExecRequest& request, const Reservation& reservation) const;
  /// Until the command has ended, or is to end: nullopt.
  std::optional<int> Follow(grpc::ServerContext& context, Stream& stream, const AttemptKey& key,
                            sae::Process& process) const;
  void EndAll(const sae::ProcessQuery& query) const;

  const Options options_;
  std::unique_ptr<grpc::Server> server_;
};

/// What runs here under a reservation carries these.
std::vector<std::string> PeerMarks(const AttemptKey& key, const std::string& runs_id,
                                   const std::string& worker_id);

}  // namespace saeloom::agent
