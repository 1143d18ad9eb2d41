#include <CLI/CLI.hpp>
#include <ostream>

#include <grpcpp/grpcpp.h>

#include "client/cli/verb.h"

namespace sae::cli {

void AddVersion(CLI::App& app, Session& session) {
  CLI::App* verb = app.add_subcommand("version", "the version of this program");
  verb->footer("Example:\n  saeloom version -o json");
  verb->callback([&session] {
    if (session.json()) {
      session.world.out << "{\"version\": \"" SAELOOM_VERSION
                           "\", \"api\": \"saeloom.v1\", \"grpc\": \""
                        << grpc::Version() << "\"}" << std::endl;
    } else {
      session.world.out << "saeloom " SAELOOM_VERSION " (API saeloom.v1, gRPC " << grpc::Version()
                        << ")" << std::endl;
    }
  });
}

}  // namespace sae::cli
