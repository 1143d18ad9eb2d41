// `saeloom audit list`.

#include <CLI/CLI.hpp>
#include <memory>

#include "client/cli/kinds.h"
#include "client/cli/verb.h"

namespace sae::cli {
namespace {
using Event = saeloom::v1::ListAuditEventsResponse::AuditEvent;

/// A page may be empty though later ones are not: next_after_id tells.
absl::StatusOr<std::vector<Event>> Collect(Api& api, saeloom::v1::ListAuditEventsRequest request,
                                           int limit) {
  constexpr int kPage = 500;
  std::vector<Event> out;
  do {
    const int wanted = limit > 0 ? limit - static_cast<int>(out.size()) : kPage;
    request.set_page_size(std::min(wanted, kPage));
    SAE_ASSIGN_OR_RETURN(
        const auto page,
        api.Call(&saeloom::v1::AuthService::StubInterface::ListAuditEvents, request));
    out.insert(out.end(), page.events().begin(), page.events().end());
    request.set_after_id(page.next_after_id());
  } while (request.after_id() > 0 && (limit == 0 || static_cast<int>(out.size()) < limit));
  return out;
}

}  // namespace

void AddAudit(CLI::App& app, Session& session) {
  struct Options {
    std::string principal, method;
    std::int64_t after = 0;
  };
  auto options = std::make_shared<Options>();
  CLI::App* noun = AddNoun(app, "audit", "who changed what");
  CLI::App* verb = AddVerb(
      *noun, session, "list", "calls that changed something, or were refused",
      {"% --limit 50", "% --principal ann --method CancelSweep -o jsonl", "% --after 1200 -o wide"},
      {.watch = true, .names = true});
  verb->add_option("--limit", session.limit, "at most so many")->check(CLI::NonNegativeNumber);
  verb->add_option("--principal", options->principal, "of this one alone");
  verb->add_option("--method", options->method, "this method alone, as CancelSweep");
  verb->add_option("--after", options->after, "later than the one with this id");
  OnRun(verb, session, [options, &session] {
    return Show(session, [options, &session](Api& api) -> absl::StatusOr<std::string> {
      saeloom::v1::ListAuditEventsRequest request;
      request.set_after_id(options->after);
      request.set_principal(options->principal);
      request.set_method(options->method);
      SAE_ASSIGN_OR_RETURN(const auto events, Collect(api, request, session.limit));
      return ListText(session, AuditKind(session.world.clock.Now()), events);
    });
  });
}

}  // namespace sae::cli
