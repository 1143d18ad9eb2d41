#include "sae/comm/mpi/endpoint.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "sae/base/clock.h"
#include "sae/comm/backoff.h"

namespace sae::comm {
namespace {

constexpr int kAbortTag = 1;
constexpr int kFirstDataTag = 2;
constexpr int kDataTags = 16384;  // below the least MPI_TAG_UB that the standard allows, 32767
constexpr std::size_t kNoteBytes = 512;

absl::Status FromMpi(const char* what, int code) {
  if (code == MPI_SUCCESS) return absl::OkStatus();
  std::array<char, MPI_MAX_ERROR_STRING> text{};
  int length = 0;
  int error_class = MPI_ERR_UNKNOWN;
  MPI_Error_class(code, &error_class);
  MPI_Error_string(code, text.data(), &length);
  const std::string message = absl::StrCat(what, ": ", text.data());
  // A message of another length than expected: the ranks disagree about the operation.
  if (error_class == MPI_ERR_TRUNCATE || error_class == MPI_ERR_COUNT)
    return absl::InvalidArgumentError(message);
  return absl::UnavailableError(message);
}

}  // namespace

absl::StatusOr<std::unique_ptr<Endpoint>> Endpoint::Create(MPI_Comm parent_comm,
                                                           const MpiOptions& options,
                                                           std::shared_ptr<Mutex> mpi_lock,
                                                           std::shared_ptr<Endpoint> parent) {
  std::unique_ptr<Endpoint> endpoint(new Endpoint(options, std::move(mpi_lock), std::move(parent)));
  for (MPI_Comm* comm : {&endpoint->data_, &endpoint->control_}) {
    MPI_Request request = MPI_REQUEST_NULL;
    {
      MutexLock lock(*endpoint->mpi_lock_);
      SAE_RETURN_IF_ERROR(FromMpi("MPI_Comm_idup", MPI_Comm_idup(parent_comm, comm, &request)));
    }
    Backoff backoff;
    for (int done = 0; done == 0;) {
      {
        MutexLock lock(*endpoint->mpi_lock_);
        SAE_RETURN_IF_ERROR(FromMpi("MPI_Comm_idup", MPI_Test(&request, &done, MPI_STATUS_IGNORE)));
      }
      if (done != 0) break;
      if (backoff.waited() > options.deadline) {
        *comm = MPI_COMM_NULL;
        return absl::DeadlineExceededError(absl::StrCat("communicator: not all ranks came within ",
                                                        absl::FormatDuration(options.deadline)));
      }
      backoff.Pause();
    }
    MutexLock lock(*endpoint->mpi_lock_);
    MPI_Comm_set_errhandler(*comm, MPI_ERRORS_RETURN);
  }
  MutexLock lock(*endpoint->mpi_lock_);
  MPI_Comm_rank(endpoint->data_, &endpoint->rank_);
  MPI_Comm_size(endpoint->data_, &endpoint->size_);
  return endpoint;
}

Endpoint::~Endpoint() {
  MutexLock lock(*mpi_lock_);
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized != 0) return;
  // A failed group's messages are still under way, and those of its parts. Leave it: a new group
  // that took its place in MPI would find them.
  for (Endpoint* group = this; group != nullptr; group = group->parent_.get()) {
    if (!group->failure().ok()) return;
  }
  if (data_ != MPI_COMM_NULL) MPI_Comm_free(&data_);
  if (control_ != MPI_COMM_NULL) MPI_Comm_free(&control_);
}

absl::Status Endpoint::failure() {
  MutexLock lock(state_);
  return failed_;
}

void Endpoint::Fail(absl::Status status) {
  MutexLock lock(state_);
  if (failed_.ok()) failed_ = std::move(status);
}

absl::Status Endpoint::Check() {
  for (Endpoint* group = this; group != nullptr; group = group->parent_.get()) {
    int found = 0;
    MPI_Status status;
    if (group->failure().ok() &&
        MPI_Iprobe(MPI_ANY_SOURCE, kAbortTag, group->control_, &found, &status) == MPI_SUCCESS &&
        found != 0) {
      std::array<char, kNoteBytes> note{};
      MPI_Recv(note.data(), kNoteBytes - 1, MPI_CHAR, status.MPI_SOURCE, kAbortTag, group->control_,
               MPI_STATUS_IGNORE);
      group->Fail(absl::AbortedError(absl::StrCat("rank ", status.MPI_SOURCE, ": ", note.data())));
    }
    SAE_RETURN_IF_ERROR(group->failure());
  }
  return absl::OkStatus();
}

absl::Status Endpoint::CheckNow() {
  MutexLock lock(*mpi_lock_);
  int finalized = 0;
  MPI_Finalized(&finalized);
  return finalized != 0 ? failure() : Check();
}

void Endpoint::Abort(const std::string& reason) {
  if (!failure().ok()) return;
  Fail(absl::AbortedError(absl::StrCat("rank ", rank_, ": ", reason)));
  const std::string note = reason.substr(0, kNoteBytes - 1);
  MutexLock lock(*mpi_lock_);
  int finalized = 0;
  MPI_Finalized(&finalized);
  if (finalized != 0) return;
  for (int peer = 0; peer < size_; ++peer) {
    if (peer == rank_) continue;
    // So short that MPI buffers it: the call does not wait for the peer.
    MPI_Send(note.data(), static_cast<int>(note.size()), MPI_CHAR, peer, kAbortTag, control_);
  }
}

absl::Status Endpoint::Post(const char* operation, const std::vector<Transfer>& transfers,
                            Pending* pending) {
  const int tag = kFirstDataTag + sequence_++ % kDataTags;
  const std::int64_t limit = options_.max_message_bytes;
  const auto each = [&](std::int64_t bytes, bool sync, int peer, bool receive,
                        const auto& call) -> absl::Status {
    if (bytes == 0 && !sync) return absl::OkStatus();
    std::int64_t at = 0;
    do {
      const std::int64_t part = std::min(limit, bytes - at);
      MPI_Request request = MPI_REQUEST_NULL;
      SAE_RETURN_IF_ERROR(FromMpi(operation, call(at, static_cast<int>(part), &request)));
      pending->requests.push_back(request);
      pending->peers.push_back(peer);
      pending->receives.push_back(receive ? static_cast<int>(part) : -1);
      at += part;
    } while (at < bytes);
    return absl::OkStatus();
  };
  // Receives first, and each rank begins with its right neighbour, so that not all talk to rank 0
  // at once.
  for (int step = 1; step < size_; ++step) {
    const int peer = (rank_ + size_ - step) % size_;
    const Transfer& t = transfers[static_cast<std::size_t>(peer)];
    SAE_RETURN_IF_ERROR(
        each(t.receive_bytes, t.sync, peer, true, [&](std::int64_t at, int part, MPI_Request* out) {
          return MPI_Irecv(static_cast<char*>(t.receive) + at, part, MPI_BYTE, peer, tag, data_,
                           out);
        }));
  }
  for (int step = 1; step < size_; ++step) {
    const int peer = (rank_ + step) % size_;
    const Transfer& t = transfers[static_cast<std::size_t>(peer)];
    SAE_RETURN_IF_ERROR(
        each(t.send_bytes, t.sync, peer, false, [&](std::int64_t at, int part, MPI_Request* out) {
          return MPI_Isend(static_cast<const char*>(t.send) + at, part, MPI_BYTE, peer, tag, data_,
                           out);
        }));
  }
  return absl::OkStatus();
}

absl::Status Endpoint::CheckSizes(const char* operation, const Pending& pending) {
  for (std::size_t i = 0; i < pending.requests.size(); ++i) {
    if (pending.receives[i] < 0) continue;
    int bytes = 0;
    MPI_Get_count(&pending.statuses[i], MPI_BYTE, &bytes);
    if (bytes == pending.receives[i]) continue;
    return absl::InvalidArgumentError(
        absl::StrCat(operation, ": ranks call different operations: rank ", pending.peers[i],
                     " sent ", bytes, " bytes, rank ", rank_, " expects ", pending.receives[i]));
  }
  return absl::OkStatus();
}

absl::Status Endpoint::Wait(const char* operation, Pending* pending) {
  Backoff backoff;
  pending->statuses.resize(pending->requests.size());
  for (;;) {
    {
      MutexLock lock(*mpi_lock_);
      int done = 0;
      const int code = MPI_Testall(static_cast<int>(pending->requests.size()),
                                   pending->requests.data(), &done, pending->statuses.data());
      if (code == MPI_ERR_IN_STATUS) {
        for (const MPI_Status& status : pending->statuses) {
          if (status.MPI_ERROR == MPI_ERR_PENDING) continue;
          SAE_RETURN_IF_ERROR(FromMpi(operation, status.MPI_ERROR));
        }
      }
      SAE_RETURN_IF_ERROR(FromMpi(operation, code));
      if (done != 0) return CheckSizes(operation, *pending);
      SAE_RETURN_IF_ERROR(Check());
    }
    if (backoff.waited() > options_.deadline) {
      return absl::DeadlineExceededError(
          absl::StrCat(operation, ": nothing within ", absl::FormatDuration(options_.deadline)));
    }
    backoff.Pause();
  }
}

Endpoint::Absent Endpoint::Withdraw(Pending* pending) {
  std::vector<int> missing, blocked;
  MutexLock lock(*mpi_lock_);
  for (std::size_t i = 0; i < pending->requests.size(); ++i) {
    MPI_Request& request = pending->requests[i];
    if (request == MPI_REQUEST_NULL) continue;
    int done = 0;  // MPI_Testall leaves what is finished as it is until all are
    if (MPI_Test(&request, &done, MPI_STATUS_IGNORE) != MPI_SUCCESS || done != 0) continue;
    if (pending->receives[i] >= 0) {
      missing.push_back(pending->peers[i]);
      MPI_Cancel(
          &request);  // of a receive: local, and then nobody writes the caller's buffer any more
      MPI_Wait(&request, MPI_STATUS_IGNORE);
    } else {
      blocked.push_back(pending->peers[i]);
      MPI_Request_free(&request);  // a send cannot be taken back
    }
  }
  const auto names = [](std::vector<int>& peers) {
    std::sort(peers.begin(), peers.end());
    peers.erase(std::unique(peers.begin(), peers.end()), peers.end());
    std::string text;
    for (const int peer : peers) absl::StrAppend(&text, text.empty() ? "" : ", ", peer);
    return text;
  };
  return {.silent = names(missing), .blocked = names(blocked)};
}

absl::Status Endpoint::Exchange(const char* operation, const std::vector<Transfer>& transfers) {
  {
    MutexLock lock(*mpi_lock_);
    if (const absl::Status status = Check(); !status.ok())
      return absl::AbortedError(Message(status));
  }
  const Transfer& own = transfers[static_cast<std::size_t>(rank_)];
  if (own.send_bytes > 0 && own.send != own.receive) {
    std::memmove(own.receive, own.send, static_cast<std::size_t>(own.send_bytes));
  }
  pending_.requests.clear();
  pending_.peers.clear();
  pending_.receives.clear();
  absl::Status status;
  {
    MutexLock lock(*mpi_lock_);
    status = Post(operation, transfers, &pending_);
  }
  if (status.ok()) status = Wait(operation, &pending_);
  if (status.ok()) return status;
  const Absent absent = Withdraw(&pending_);
  if (absl::IsDeadlineExceeded(status)) {
    // A rank that stops after its own data has arrived is seen only by the data it does not take.
    const std::string who = absent.silent.empty()
                                ? absl::StrCat("no data taken by rank ", absent.blocked)
                                : absl::StrCat("no sign of rank ", absent.silent);
    status = absl::DeadlineExceededError(
        absl::StrCat(operation, ": ", who, " within ", absl::FormatDuration(options_.deadline)));
  }
  Fail(status);
  return status;
}

absl::StatusOr<std::unique_ptr<Endpoint>> Endpoint::Split(int color, int key) {
  // MPI_Comm_split has no deadline; after this exchange all ranks are there and it cannot wait for
  // long.
  std::vector<Transfer> sync(static_cast<std::size_t>(size_));
  for (Transfer& transfer : sync) transfer.sync = true;
  SAE_RETURN_IF_ERROR(Exchange("Split", sync));
  MPI_Comm part = MPI_COMM_NULL;
  {
    MutexLock lock(*mpi_lock_);
    SAE_RETURN_IF_ERROR(FromMpi("MPI_Comm_split", MPI_Comm_split(data_, color, key, &part)));
  }
  absl::StatusOr<std::unique_ptr<Endpoint>> child =
      Create(part, options_, mpi_lock_, shared_from_this());
  MutexLock lock(*mpi_lock_);
  MPI_Comm_free(&part);
  return child;
}

}  // namespace sae::comm
