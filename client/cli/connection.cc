#include "client/cli/connection.h"

#include <optional>

#include "client/cli/context_file.h"

namespace sae::cli {
namespace {

/// The context that --context, $SAELOOM_CONTEXT or the file's `current` names, in this order.
absl::StatusOr<std::optional<Context>> ChosenContext(const ConnectionFlags& flags,
                                                     const World& world) {
  std::string name = flags.context;
  if (name.empty()) name = world.variable("SAELOOM_CONTEXT");
  const auto file = LoadContexts(world);
  if (absl::IsFailedPrecondition(file.status()) && name.empty()) return std::nullopt;  // no home
  SAE_RETURN_IF_ERROR(file.status());
  if (name.empty()) name = file->current;
  if (name.empty()) return std::nullopt;
  ContextFile contexts = *file;
  const Context* found = contexts.Find(name);
  if (found == nullptr) return NoSuchContext(contexts, name);
  if (found->server.empty()) {
    return absl::InvalidArgumentError(absl::StrCat(
        "context ", name, " has no server: saeloom context set ", name, " --server HOST:PORT"));
  }
  return *found;
}

void FillFromContext(const Context& context, ClientCredentialOptions& options) {
  if (!options.UsesTls()) {
    options.tls.ca = context.ca;
    options.tls.cert = context.cert;
    options.tls.key = context.key;
  }
  if (options.token_file.empty()) options.token_file = context.token_file;
}

Connection Complete(const ConnectionFlags& flags, const World& world, Address address,
                    const Context* context) {
  Connection out;
  out.address = std::move(address);
  out.credentials = flags.credentials;
  if (context != nullptr) out.context = context->name;
  // What was named with --context stands over the environment.
  if (context != nullptr && !flags.context.empty()) FillFromContext(*context, out.credentials);
  FillFromEnvironment(world.variable, out.credentials);
  if (context != nullptr) FillFromContext(*context, out.credentials);
  return out;
}

}  // namespace

absl::StatusOr<Connection> ResolveConnection(const ConnectionFlags& flags, const World& world) {
  if (!flags.server.empty()) {
    SAE_ASSIGN_OR_RETURN(Address address, CheckAddress(flags.server, "--server"));
    return Complete(flags, world, std::move(address), nullptr);
  }
  const std::string variable = world.variable("SAELOOM_ADDR");
  if (flags.context.empty() && !variable.empty()) {
    SAE_ASSIGN_OR_RETURN(Address address, CheckAddress(variable, "$SAELOOM_ADDR"));
    return Complete(flags, world, std::move(address), nullptr);
  }
  SAE_ASSIGN_OR_RETURN(const std::optional<Context> context, ChosenContext(flags, world));
  if (context) {
    SAE_ASSIGN_OR_RETURN(Address address,
                         CheckAddress(context->server, "context " + context->name));
    return Complete(flags, world, std::move(address), &*context);
  }
  SAE_ASSIGN_OR_RETURN(Address address, FindAddressFile(world));
  return Complete(flags, world, std::move(address), nullptr);
}

}  // namespace sae::cli
