#include "client/cli/print.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <ostream>

#include "absl/strings/str_split.h"

#include "client/cli/exit_code.h"
#include "client/cli/screen.h"
#include "client/cli/yaml_text.h"

namespace sae::cli {
namespace {

constexpr absl::Duration kAgainAfter = absl::Seconds(2);
constexpr absl::Duration kPatience = absl::Seconds(60);  ///< with a coordinator that went away

std::vector<std::string> Lines(const std::string& text) {
  std::vector<std::string> out = absl::StrSplit(text, '\n');
  if (!out.empty() && out.back().empty()) out.pop_back();
  return out;
}

bool Paints(const Session& session) {
  return session.world.terminal && !session.no_color && !session.json() && !session.names() &&
         session.world.variable("NO_COLOR").empty();
}

/// What fits a terminal: a line that wraps could not be drawn over.
std::vector<std::string> Fitted(const Session& session, const std::string& text) {
  std::vector<std::string> lines = Lines(text);
  const int columns = session.world.columns ? session.world.columns() : 80;
  const auto rows = static_cast<std::size_t>(session.world.rows ? session.world.rows() : 24);
  if (rows > 1 && lines.size() > rows - 1) {
    lines.resize(rows - 1);
    lines.back() = "… the terminal has no more lines";
  }
  for (std::string& line : lines) {
    line = Shorten(line, columns);
    if (Paints(session)) line = Paint(line);
  }
  return lines;
}

bool IsWordChar(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_'; }

}  // namespace

std::string MachineText(const Session& session, const std::string& json) {
  if (session.output == "yaml") return YamlFromJson(json);
  if (session.output != "jsonl") return json + "\n";
  const auto j = nlohmann::ordered_json::parse(json, nullptr, false);
  const auto dump = [](const nlohmann::ordered_json& one) {
    return one.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n";
  };
  if (!j.is_array()) return dump(j);
  std::string out;
  for (const auto& element : j) out += dump(element);
  return out;
}

std::string StreamText(const Session& session, const std::string& json) {
  return session.output == "yaml" ? "---\n" + YamlFromJson(json) : json + "\n";
}

void Print(Session& session, const std::string& text) {
  session.world.out << (Paints(session) ? Paint(text) : text) << std::flush;
}

absl::Status Show(Session& session,
                  const std::function<absl::StatusOr<std::string>(Api&)>& render) {
  if (session.watch) session.CatchSignals();
  SAE_ASSIGN_OR_RETURN(const auto api, session.Connect());
  if (!session.watch) {
    SAE_ASSIGN_OR_RETURN(const std::string text, render(*api));
    Print(session, text);
    return absl::OkStatus();
  }
  Screen screen(session.world.out, session.world.terminal && !session.json() && !session.names());
  std::string last;
  absl::Duration heard = session.world.clock.SinceBoot();
  for (bool first = true;; first = false) {
    const auto text = render(*api);
    const absl::Duration now = session.world.clock.SinceBoot();
    if (text.ok()) {
      heard = now;
      if (screen.terminal()) {
        screen.Draw(Fitted(session, *text));
      } else if (first || *text != last) {
        Print(session, *text);
      }
      last = *text;
    } else if (first || !absl::IsUnavailable(text.status()) || now - heard > kPatience) {
      return text.status();
    }
    if (session.Interrupted(kAgainAfter)) {
      session.exit_code = kExitInterrupted;
      return absl::OkStatus();
    }
  }
}

absl::Time ToTime(const google::protobuf::Timestamp& time) {
  return absl::FromUnixSeconds(time.seconds()) + absl::Nanoseconds(time.nanos());
}

std::string Ago(const google::protobuf::Timestamp& time, absl::Time now) {
  if (time.seconds() == 0) return "-";
  return Span(std::max(absl::ZeroDuration(), now - ToTime(time)));
}

std::string Paint(const std::string& text) {
  static const std::map<std::string, std::string> colours = {
      {"RUNNING", "36"},    {"SUCCEEDED", "32"}, {"STOPPED_EARLY", "32"}, {"FAILED", "31"},
      {"CANCELLED", "33"},  {"PAUSED", "33"},    {"PENDING", "90"},       {"ready", "32"},
      {"lost", "31"},       {"cordoned", "33"},  {"draining", "33"},      {"SERVING", "32"},
      {"NOT_SERVING", "31"}};
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    std::size_t end = at;
    while (end < text.size() && IsWordChar(text[end])) ++end;
    if (end == at) {
      out += text[at++];
      continue;
    }
    const std::string word = text.substr(at, end - at);
    const auto it = colours.find(word);
    out += it == colours.end() ? word : "\x1b[" + it->second + "m" + word + "\x1b[0m";
    at = end;
  }
  return out;
}

}  // namespace sae::cli
