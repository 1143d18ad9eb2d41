#pragma once
// Results in the form that -o asks for. A Kind says how one sort of message becomes a row; the
// machine forms show the whole message. Nothing but results goes to the output stream. One thread.

#include <functional>
#include <string>
#include <vector>

#include <google/protobuf/timestamp.pb.h>

#include "client/cli/json_view.h"
#include "client/cli/table.h"
#include "client/cli/verb.h"

namespace sae::cli {

template <class M>
struct Column {
  std::string title;
  std::function<std::string(const M&)> cell;
  Table::Align align = Table::Align::kLeft;
  bool wide = false;  ///< only with -o wide
};

template <class M>
struct Kind {
  std::string none;  ///< what a person reads instead of an empty table
  std::function<std::string(const M&)> name;
  std::vector<Column<M>> columns;
};

/// `json` (one value) as the session's machine form, with its newline; an array is one element a
/// line with jsonl.
std::string MachineText(const Session& session, const std::string& json);

/// The same for one element of a stream: always on one line, a document of its own with yaml.
std::string StreamText(const Session& session, const std::string& json);

template <class M, class Rows>
std::string TableText(const Session& session, const Kind<M>& kind, const Rows& rows) {
  if (rows.empty()) return session.quiet ? "" : kind.none + "\n";
  std::vector<Table::Column> titles;
  for (const Column<M>& c : kind.columns) {
    if (!c.wide || session.wide()) titles.push_back({c.title, c.align});
  }
  Table table(std::move(titles));
  for (const M& row : rows) {
    std::vector<std::string> cells;
    for (const Column<M>& c : kind.columns) {
      if (!c.wide || session.wide()) cells.push_back(c.cell(row));
    }
    table.Add(std::move(cells));
  }
  return table.Text();
}

template <class M, class Rows>
std::string NamesText(const Kind<M>& kind, const Rows& rows) {
  std::string out;
  for (const M& row : rows) out += kind.name(row) + "\n";
  return out;
}

template <class M, class Rows>
std::string ListText(const Session& session, const Kind<M>& kind, const Rows& rows) {
  if (session.json()) return MachineText(session, JsonArrayText(rows));
  return session.names() ? NamesText(kind, rows) : TableText(session, kind, rows);
}

/// One thing asked for by name is one object, several are a list.
template <class M>
std::string GetText(const Session& session, const Kind<M>& kind, const std::vector<M>& rows) {
  if (session.json() && rows.size() == 1) return MachineText(session, JsonText(rows[0]));
  return ListText(session, kind, rows);
}

/// What a change answers: `text` for a person, the message itself or its name for a script.
template <class M>
void PrintChanged(Session& session, const M& message, const std::string& name,
                  const std::string& text);
void Print(Session& session, const std::string& text);

/// Calls `render` and prints what it gives; with --watch again every 2 s where it has changed,
/// until Ctrl-C.
absl::Status Show(Session& session, const std::function<absl::StatusOr<std::string>(Api&)>& render);

/// "3m05s" since then; "-" where there is no time.
std::string Ago(const google::protobuf::Timestamp& time, absl::Time now);
absl::Time ToTime(const google::protobuf::Timestamp& time);

/// States in colour: for a terminal only. Words keep their place, so columns still line up.
std::string Paint(const std::string& text);

template <class M>
void PrintChanged(Session& session, const M& message, const std::string& name,
                  const std::string& text) {
  if (session.json()) {
    Print(session, MachineText(session, JsonText(message)));
  } else if (session.names()) {
    Print(session, name + "\n");
  } else if (!session.quiet) {
    Print(session, text + "\n");
  }
}

}  // namespace sae::cli
