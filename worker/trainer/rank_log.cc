#include "worker/trainer/rank_log.h"

#include <fcntl.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>

#include "sae/base/log.h"

namespace saeloom::trainer {
namespace {

// The descriptor under which the terminal (or the launcher's pipe) stays open.
class FdSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  explicit FdSink(int fd) : fd_(fd) {}

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t text;
    formatter_->format(message, text);
    const ssize_t ignored = ::write(fd_, text.data(), text.size());
    static_cast<void>(ignored);
  }
  void flush_() override {}

 private:
  int fd_;
};

absl::StatusOr<int> TurnOutputTo(const std::string& path) {
  const int file = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  if (file < 0) return sae::ErrnoToStatus(errno, sae::ToAbsl("cannot open " + path));
  const int terminal = ::fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 3);
  std::fflush(nullptr);
  ::dup2(file, STDOUT_FILENO);
  ::dup2(file, STDERR_FILENO);
  ::close(file);
  return terminal;
}

}  // namespace

absl::Status SetUpRankLog(const std::string& directory, int rank, bool under_launcher) {
  const std::string path = absl::StrCat(directory, "/rank-", rank, ".log");
  std::shared_ptr<spdlog::sinks::sink> other;
  if (under_launcher) {
    SAE_ASSIGN_OR_RETURN(const int terminal, TurnOutputTo(path));
    other = std::make_shared<FdSink>(terminal);
    if (rank != 0) other->set_level(spdlog::level::err);
  } else {
    try {
      other = std::make_shared<spdlog::sinks::basic_file_sink_mt>(path);
    } catch (const spdlog::spdlog_ex& e) {
      return absl::InternalError(absl::StrCat("cannot open ", path, ": ", e.what()));
    }
  }
  sae::InitLogging(absl::StrCat("rank ", rank));
  const std::shared_ptr<spdlog::logger> logger = spdlog::default_logger();
  other->set_pattern("%Y-%m-%dT%H:%M:%S.%e %l [%n] %v");
  logger->sinks().push_back(std::move(other));
  return absl::OkStatus();
}

}  // namespace saeloom::trainer
