#include "sae/base/log.h"

#include <spdlog/sinks/stdout_sinks.h>

#include <cstdlib>
#include <memory>

namespace sae {

void InitLogging(const std::string& name, const std::string& level) {
  auto logger = std::make_shared<spdlog::logger>(
      name, std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e %^%l%$ [%n] %v");
  std::string wanted = level;
  if (wanted.empty()) {
    const char* from_env = std::getenv("SAELOOM_LOG");
    wanted = from_env == nullptr ? "info" : from_env;
  }
  logger->set_level(spdlog::level::from_str(wanted));
  logger->flush_on(spdlog::level::trace);
  spdlog::set_default_logger(std::move(logger));
}

}  // namespace sae
