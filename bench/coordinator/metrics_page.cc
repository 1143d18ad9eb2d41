#include "bench/coordinator/metrics_page.h"

#include <arpa/inet.h>
#include <cstdlib>
#include <limits>
#include <netinet/in.h>
#include <sstream>
#include <sys/socket.h>
#include <unistd.h>

#include "absl/strings/str_format.h"

namespace sae::bench {

absl::StatusOr<MetricsPage> MetricsPage::Fetch(const std::string& address) {
  sockaddr_in to{};
  to.sin_family = AF_INET;
  to.sin_port =
      htons(static_cast<std::uint16_t>(std::stoi(address.substr(address.rfind(':') + 1))));
  to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
  const timeval limit{10, 0};
  ::setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  std::string out;
  ssize_t n = -1;
  if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0) {
    const std::string request = "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n";
    char buffer[4096];
    if (::write(fd, request.data(), request.size()) > 0) {
      while ((n = ::read(fd, buffer, sizeof buffer)) > 0)
        out.append(buffer, static_cast<std::size_t>(n));
    }
  }
  ::close(fd);
  if (n < 0) return absl::UnavailableError("no metrics page at " + address);
  return MetricsPage(out);
}

MetricsPage::MetricsPage(const std::string& text) {
  std::istringstream page(text);
  for (std::string line; std::getline(page, line);) {
    const std::size_t space = line.rfind(' ');
    if (line.empty() || line[0] == '#' || space == std::string::npos) continue;
    values_[line.substr(0, space)] = std::strtod(line.c_str() + space, nullptr);
  }
}

double MetricsPage::Value(const std::string& series) const {
  const auto it = values_.find(series);
  return it == values_.end() ? -1 : it->second;
}

Histogram MetricsPage::HistogramOf(const std::string& name, const std::string& label) const {
  Histogram out;
  const std::string prefix = name + "_bucket{";
  for (auto it = values_.lower_bound(prefix); it != values_.end(); ++it) {
    const std::string& series = it->first;
    if (series.rfind(prefix, 0) != 0) break;
    const std::size_t le = series.find("le=\"");
    if (le == std::string::npos || series.find(label) == std::string::npos) continue;
    const std::string bound = series.substr(le + 4, series.find('"', le + 4) - le - 4);
    const double seconds = bound == "+Inf" ? std::numeric_limits<double>::infinity()
                                           : std::strtod(bound.c_str(), nullptr);
    out.at_most[seconds] += it->second;
  }
  return out;
}

Histogram Histogram::Since(const Histogram& before) const {
  Histogram out = *this;
  for (auto& [seconds, n] : out.at_most) {
    const auto it = before.at_most.find(seconds);
    if (it != before.at_most.end()) n -= it->second;
  }
  return out;
}

double Histogram::Quantile(double q) const {
  const double wanted = q * count();
  double from = 0, below = 0;
  for (const auto& [seconds, n] : at_most) {
    if (n >= wanted && n > below) {
      const double to = seconds == std::numeric_limits<double>::infinity() ? from : seconds;
      return 1e3 * (from + (to - from) * (wanted - below) / (n - below));
    }
    from = seconds;
    below = n;
  }
  return 0;
}

std::string Histogram::Text() const {
  return absl::StrFormat("p50 %.1f ms, p99 %.1f ms of %.0f (by buckets)", Quantile(0.5),
                         Quantile(0.99), count());
}

}  // namespace sae::bench
