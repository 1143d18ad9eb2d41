#include <nlohmann/json.hpp>

#include "client/cli/supervisor.h"

namespace sae::cli {
namespace {

/// The number after the last ':' of "host:port", or the number itself; 0 when there is none.
int PortOf(const std::string& word) {
  const std::size_t colon = word.rfind(':');
  const std::string digits = colon == std::string::npos ? word : word.substr(colon + 1);
  int port = 0;
  for (const char c : digits) {
    if (c < '0' || c > '9' || port > 65535) return 0;
    port = port * 10 + (c - '0');
  }
  return port <= 65535 ? port : 0;
}

}  // namespace

PortFile ParsePortFile(const std::string& text) {
  PortFile out;
  const nlohmann::json j = nlohmann::json::parse(text, nullptr, false);
  if (j.is_object()) {
    for (const auto& [key, value] : j.items()) {
      const int port = PortOf(value.is_string() ? value.get<std::string>() : value.dump());
      if (key == "listen") out.listen = port;
      if (key == "metrics") out.metrics = port;
    }
    return out;
  }
  std::vector<int> ports;
  std::string word;
  for (const char c : text + "\n") {
    if (c != ' ' && c != '\n' && c != '\t') {
      word += c;
    } else if (!word.empty()) {
      if (const int port = PortOf(word); port > 0) ports.push_back(port);
      word.clear();
    }
  }
  if (!ports.empty()) out.listen = ports[0];
  if (ports.size() > 1) out.metrics = ports[1];
  return out;
}

}  // namespace sae::cli
