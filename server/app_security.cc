#include "server/app_security.h"

#include <CLI/CLI.hpp>
#include <iostream>
#include <spdlog/spdlog.h>

#include "server/auth/bootstrap.h"
#include "server/runtime/run_on_core.h"

namespace sae::server {

void AddSecurityFlags(CLI::App& app, SecurityFlags& flags) {
  app.add_option("--tls-dir", flags.tls_dir,
                 "Folder with cert.pem, key.pem and ca.pem (tools/make_certs.sh): calls are "
                 "encrypted, people need tokens, workers certificates of that CA");
  app.add_option("--tls-cert", flags.tls.cert, "The same as three flags: certificate, PEM");
  app.add_option("--tls-key", flags.tls.key, "Its private key, PEM");
  app.add_option("--tls-ca", flags.tls.ca, "CAs that sign workers' certificates, PEM");
  app.add_option("--tls-refresh", flags.tls.refresh_seconds,
                 "Look every so many seconds whether these files were renewed")
      ->check(CLI::Range(1U, 86'400U))
      ->capture_default_str();
  app.add_option("--trust-domain", flags.trust_domain,
                 "Workers' certificates name spiffe://THIS/worker/NAME")
      ->capture_default_str();
  app.add_flag("--require-worker-identity,!--no-require-worker-identity",
               flags.require_worker_identity,
               "With TLS, workers need certificates (default); without, an operator's token does");
  app.add_flag("--enable-reflection", flags.enable_reflection,
               "With TLS, too, tell everybody which methods there are");
  app.add_option("--max-request-bytes", flags.max_request_bytes, "Largest request of people")
      ->check(CLI::Range(1 << 10, 16 << 20))
      ->capture_default_str();
  app.add_option("--max-streams-per-principal", flags.max_streams_per_principal,
                 "Watches and log tails that one principal may have open")
      ->check(CLI::Range(1, 1'000'000))
      ->capture_default_str();
  app.add_option("--keep-audit", flags.keep_audit,
                 "Newest audit records that are kept, older ones are deleted; 0 = keep all")
      ->check(CLI::Range(std::int64_t{0}, std::int64_t{1} << 40))
      ->capture_default_str();
  app.add_option("--create-admin-token", flags.create_admin_token,
                 "Write a new token for an admin to this file, and end: for the first one, or when "
                 "all are lost");
}

absl::Status ApplySecurityFlags(const SecurityFlags& flags, ServerOptions& options) {
  options.tls = flags.tls;
  if (!flags.tls_dir.empty()) {
    if (!flags.tls.empty()) {
      return absl::InvalidArgumentError(
          "--tls-dir and --tls-cert, --tls-key, --tls-ca say the same: give one or the others");
    }
    options.tls = TlsFilesIn(flags.tls_dir);
    options.tls.refresh_seconds = flags.tls.refresh_seconds;
  }
  options.trust_domain = flags.trust_domain;
  options.reflection = options.tls.empty() || flags.enable_reflection;
  options.gate.require_worker_identity = flags.require_worker_identity;
  options.gate.max_request_bytes = flags.max_request_bytes;
  options.gate.audit.keep = flags.keep_audit;
  options.gate.max_streams_per_principal = flags.max_streams_per_principal;
  return absl::OkStatus();
}

absl::Status EnsureAdminToken(Coordinator& coordinator, const std::string& data) {
  const std::string path = data + "/admin.token";
  const auto ensure = [&](Core& core) -> absl::StatusOr<bool> {
    SAE_ASSIGN_OR_RETURN(auto records, coordinator.store().Tokens());
    TokenTable known;
    known.Load(std::move(records));
    if (known.HasAdmin(core.Now())) return false;
    SAE_RETURN_IF_ERROR(
        CreateAdminToken(coordinator.store(), path, true, core.Now(), MachineEntropy).status());
    return true;
  };
  SAE_ASSIGN_OR_RETURN(const bool is_new, RunOnCore<absl::StatusOr<bool>>(coordinator, ensure));
  if (is_new) spdlog::info("no admin had a token: one is in {}, for --token-file", path);
  return absl::OkStatus();
}

absl::Status CreateAdminTokenOnly(EventStore& store, const std::string& path, absl::Time now) {
  SAE_RETURN_IF_ERROR(store.BeginEpoch().status());
  SAE_ASSIGN_OR_RETURN(const TokenRecord record,
                       CreateAdminToken(store, path, false, now, MachineEntropy));
  std::cout << "token " << record.id << " of admin is in " << path << ", good until "
            << absl::FormatTime("%Y-%m-%d", record.expires, absl::UTCTimeZone()) << std::endl;
  return absl::OkStatus();
}

}  // namespace sae::server
