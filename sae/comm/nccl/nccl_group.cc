#include "sae/comm/nccl/nccl_group.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "sae/base/clock.h"
#include "sae/comm/backoff.h"

namespace sae::comm {
namespace {

// How often a rank that waits looks for an abort note, which may be a look into a shared folder.
constexpr absl::Duration kAskEvery = absl::Milliseconds(20);
// How long a stream may take to end after ncclCommAbort, and how long that may take itself.
constexpr absl::Duration kJoin = absl::Seconds(10);
// How long a failure is kept back for ncclCommAbort to end.
constexpr absl::Duration kKill = absl::Seconds(1);

ncclConfig_t NonBlocking() {
  ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
  config.blocking = 0;
  return config;
}

/// NCCL stores a split's communicator from a thread of its own.
ncclComm_t Load(ncclComm_t& made) {
  return std::atomic_ref<ncclComm_t>(made).load(std::memory_order_acquire);
}

}  // namespace

absl::Status FromNccl(const std::string& what, ncclResult_t result, const char* detail) {
  std::string message = absl::StrCat(what, ": NCCL: ", ncclGetErrorString(result));
  if (detail != nullptr && detail[0] != '\0') absl::StrAppend(&message, ": ", detail);
  switch (result) {
    case ncclSuccess:
      return absl::OkStatus();
    case ncclInvalidArgument:
    case ncclInvalidUsage:
      return absl::InvalidArgumentError(message);
    case ncclSystemError:
    case ncclRemoteError:
      return absl::UnavailableError(message);
    default:
      return absl::InternalError(message);
  }
}

absl::StatusOr<std::shared_ptr<NcclGroup>> NcclGroup::Create(const NcclOptions& options) {
  if (options.size < 1 || options.rank < 0 || options.rank >= options.size) {
    return absl::InvalidArgumentError(
        absl::StrCat("NCCL: rank ", options.rank, " of ", options.size));
  }
  if (options.rendezvous == nullptr || options.runtime == nullptr) {
    return absl::InvalidArgumentError("NCCL: a rendezvous and a device runtime are needed");
  }
  SAE_RETURN_IF_ERROR(options.runtime->BindThread());  // NCCL takes the thread's device
  std::shared_ptr<NcclGroup> group(new NcclGroup(options));
  SAE_ASSIGN_OR_RETURN(group->event_, options.runtime->CreateEvent());
  SAE_RETURN_IF_ERROR(group->Start());
  return group;
}

absl::Status NcclGroup::Start() {
  const std::string key = absl::StrCat(options_.name, ".id");
  ncclUniqueId id{};
  if (rank() == 0) {
    SAE_RETURN_IF_ERROR(FromNccl("ncclGetUniqueId", ncclGetUniqueId(&id), nullptr));
    SAE_RETURN_IF_ERROR(
        options_.rendezvous->Publish(key, std::string(id.internal, sizeof(id.internal))));
  } else {
    SAE_ASSIGN_OR_RETURN(const std::string blob,
                         options_.rendezvous->Fetch(key, 0, options_.start));
    if (blob.size() != sizeof(id.internal)) {
      return absl::InternalError(
          absl::StrCat("NCCL: a unique id of ", blob.size(), " bytes from rank 0"));
    }
    std::memcpy(id.internal, blob.data(), blob.size());
  }
  ncclConfig_t config = NonBlocking();
  ncclResult_t result = ncclSuccess;
  {
    MutexLock lock(calls_);
    result = ncclCommInitRankConfig(&comm_, size(), id, rank(), &config);
  }
  return Settle("start", result, options_.start, nullptr);
}

NcclGroup::~NcclGroup() {
  if (LocalFailure().ok()) {
    MutexLock lock(calls_);
    ncclResult_t result = comm_ == nullptr ? ncclInvalidArgument : ncclCommFinalize(comm_);
    Backoff backoff;
    while (result == ncclSuccess || result == ncclInProgress) {
      if (ncclCommGetAsyncError(comm_, &result) != ncclSuccess) result = ncclInternalError;
      if (result != ncclInProgress || backoff.waited() > std::min(kJoin, options_.deadline)) break;
      backoff.Pause();
    }
    if (result == ncclSuccess) {
      (void)ncclCommDestroy(comm_);
      comm_ = nullptr;
    }
  }
  Kill();
  AwaitKill();
  if (event_ != nullptr) options_.runtime->DestroyEvent(event_);
}

ncclResult_t NcclGroup::AsyncError() {
  MutexLock lock(calls_);
  if (comm_ == nullptr) return ncclSuccess;
  ncclResult_t state = ncclSuccess;
  const ncclResult_t result = ncclCommGetAsyncError(comm_, &state);
  return result == ncclSuccess ? state : result;
}

absl::Status NcclGroup::Settle(const char* operation, ncclResult_t result, absl::Duration deadline,
                               ncclComm_t* made) {
  Backoff backoff;
  for (;;) {
    // Some calls return ncclSuccess for what goes on in the background.
    if (result == ncclSuccess || result == ncclInProgress) result = AsyncError();
    if (result == ncclSuccess && (made == nullptr || Load(*made) != nullptr)) break;
    if (result != ncclSuccess && result != ncclInProgress) return Failed(operation, result);
    if (absl::Status status = Listen(operation); !status.ok()) return Fail(std::move(status));
    if (backoff.waited() > deadline) return TimedOut(operation, deadline);
    backoff.Pause();
  }
  // The communicator may have gone while this thread polled.
  if (absl::Status status = LocalFailure(); !status.ok()) return Fail(std::move(status));
  return absl::OkStatus();
}

absl::Status NcclGroup::Enqueue(const char* operation,
                                absl::FunctionRef<ncclResult_t(ncclComm_t)> call) {
  SAE_RETURN_IF_ERROR(CheckBefore(operation));
  ncclResult_t result = ncclSuccess;
  {
    MutexLock lock(calls_);
    if (comm_ != nullptr) result = call(comm_);
  }
  return Settle(operation, result, options_.deadline, nullptr);
}

absl::Status NcclGroup::Wait(const char* operation, void* stream) {
  waited_ = stream;
  absl::Status status = options_.runtime->RecordEvent(event_, stream);
  if (!status.ok()) return Fail(std::move(status));
  Backoff backoff;
  for (;;) {
    status = Listen(operation);
    const absl::StatusOr<bool> done = options_.runtime->QueryEvent(event_);
    if (!done.ok()) return Fail(done.status());
    // An operation that all had come to ends well, whoever is missed since; not one that ended
    // because the communicator was aborted, which this rank has noted before.
    const bool heard_no_abort = status.ok() || absl::IsDeadlineExceeded(status);
    if (*done && heard_no_abort && LocalFailure().ok()) return absl::OkStatus();
    if (!status.ok()) return Fail(std::move(status));
    const ncclResult_t state = AsyncError();
    if (state != ncclSuccess && state != ncclInProgress) return Failed(operation, state);
    if (backoff.waited() > options_.deadline) return TimedOut(operation, options_.deadline);
    backoff.Pause();
  }
}

absl::StatusOr<ncclComm_t> NcclGroup::SplitOff(int color, int key) {
  SAE_RETURN_IF_ERROR(CheckBefore("Split"));
  ncclConfig_t config = NonBlocking();
  const auto made = std::make_shared<ncclComm_t>(nullptr);
  ncclResult_t result = ncclSuccess;
  {
    MutexLock lock(calls_);
    if (comm_ != nullptr) {
      unborn_ = made;
      result = ncclCommSplit(comm_, color, key, made.get(), &config);
    }
  }
  SAE_RETURN_IF_ERROR(Settle("Split", result, options_.deadline, made.get()));
  {
    MutexLock lock(calls_);
    if (std::exchange(unborn_, nullptr) != nullptr) return Load(*made);
  }
  return Fail(LocalFailure());  // aborted meanwhile, and the part with it
}

absl::StatusOr<std::shared_ptr<NcclGroup>> NcclGroup::Split(const std::shared_ptr<NcclGroup>& whole,
                                                            int color, int key) {
  NcclOptions options = whole->options_;
  options.name = "part";
  std::shared_ptr<NcclGroup> part(new NcclGroup(options));
  part->whole_ = whole;
  SAE_ASSIGN_OR_RETURN(part->event_, options.runtime->CreateEvent());
  SAE_ASSIGN_OR_RETURN(const ncclComm_t made, whole->SplitOff(color, key));
  {
    MutexLock lock(part->calls_);
    part->comm_ = made;
  }
  SAE_RETURN_IF_ERROR(part->Settle("Split", ncclInProgress, options.deadline, nullptr));
  {
    MutexLock lock(part->calls_);
    if (part->comm_ == nullptr) return part->LocalFailure();
    ncclResult_t result = ncclCommUserRank(part->comm_, &part->options_.rank);
    if (result == ncclSuccess) result = ncclCommCount(part->comm_, &part->options_.size);
    SAE_RETURN_IF_ERROR(FromNccl("Split", result, nullptr));
  }
  SAE_ASSIGN_OR_RETURN(part->part_rendezvous_,
                       whole->options_.rendezvous->Split(color, key, part->rank(), part->size()));
  part->options_.rendezvous = part->part_rendezvous_.get();
  return part;
}

absl::Status NcclGroup::LocalFailure() {
  for (NcclGroup* group = this; group != nullptr; group = group->whole_.get()) {
    MutexLock lock(group->state_);
    SAE_RETURN_IF_ERROR(group->failed_);
  }
  return absl::OkStatus();
}

absl::Status NcclGroup::Heard() {
  SAE_RETURN_IF_ERROR(LocalFailure());
  return options_.rendezvous->Check();
}

absl::Status NcclGroup::Listen(const char* operation) {
  const absl::Duration now = RealClock().SinceBoot();
  if (now - asked_ < kAskEvery) return LocalFailure();
  asked_ = now;
  SAE_RETURN_IF_ERROR(Heard());
  return AnswerCalls(operation);
}

absl::Status NcclGroup::RollCall() {
  if (!roll_.has_value()) {
    roll_ = options_.rendezvous->RollCall(RollKey(), options_.roll_call);
  }
  return *roll_;
}

absl::Status NcclGroup::AnswerCalls(const char* operation) {
  for (NcclGroup* group = this; group != nullptr; group = group->whole_.get()) {
    if (!group->made()) continue;
    if (!group->roll_.has_value() && !group->options_.rendezvous->Called(group->RollKey()))
      continue;
    const absl::Status roll = group->RollCall();
    if (absl::IsAborted(roll)) return roll;
    if (!absl::IsDeadlineExceeded(roll)) continue;  // whoever called says what is wrong
    return absl::DeadlineExceededError(absl::StrCat(operation, ": ", Message(roll),
                                                    " in the roll call of ", group->options_.name));
  }
  return absl::OkStatus();
}

absl::Status NcclGroup::Check() {
  absl::Status status = Heard();
  return status.ok() ? status : Record(std::move(status));
}

absl::Status NcclGroup::CheckBefore(const char* operation) {
  if (absl::Status before = LocalFailure(); !before.ok())
    return absl::AbortedError(Message(Fail(std::move(before))));
  absl::Status heard = Listen(operation);
  return heard.ok() ? heard : Fail(std::move(heard));
}

absl::Status NcclGroup::Record(absl::Status status) {
  {
    MutexLock lock(state_);
    if (failed_.ok()) failed_ = std::move(status);
    status = failed_;
  }
  Kill();
  return status;
}

absl::Status NcclGroup::Fail(absl::Status status) {
  status = Record(std::move(status));
  Join();
  return status;
}

void NcclGroup::Kill() {
  MutexLock lock(calls_);
  if (comm_ == nullptr) return;
  killer_ = std::thread([comm = std::exchange(comm_, nullptr),
                         unborn = std::exchange(unborn_, nullptr), killed = killed_] {
    (void)ncclCommAbort(comm);  // ends a split too, which leaves something to abort
    if (ncclComm_t part = unborn == nullptr ? nullptr : Load(*unborn); part != nullptr)
      (void)ncclCommAbort(part);
    *killed = true;
  });
  // Mostly it is done at once; if not, it has at least told the device to stop.
  Backoff backoff;
  while (!*killed_ && backoff.waited() < kKill) backoff.Pause();
}

void NcclGroup::AwaitKill() {
  std::thread killer;
  {
    MutexLock lock(calls_);
    killer.swap(killer_);
  }
  if (!killer.joinable()) return;
  Backoff backoff;
  while (!*killed_ && backoff.waited() < kJoin) backoff.Pause();
  if (*killed_) {
    killer.join();
  } else {
    killer.detach();  // it holds nothing of ours
  }
}

void NcclGroup::Join() {
  // Event and stream belong to the thread that calls operations.
  if (waited_ == nullptr) return;
  waited_ = nullptr;
  Backoff backoff;
  while (backoff.waited() < kJoin) {
    const absl::StatusOr<bool> done = options_.runtime->QueryEvent(event_);
    if (!done.ok() || *done) return;
    backoff.Pause();
  }
}

absl::Status NcclGroup::Failed(const char* operation, ncclResult_t result) {
  std::string detail;
  {
    MutexLock lock(calls_);
    if (const char* last = ncclGetLastError(comm_); last != nullptr) detail = last;
  }
  absl::Status status = FromNccl(operation, result, detail.c_str());
  // Often NCCL sees only what came of a failure, and a note or the roll call says which.
  if (absl::Status heard = Heard(); !heard.ok()) return Fail(std::move(heard));
  if (absl::IsUnavailable(status) && made()) {
    const absl::Status roll = RollCall();
    if (absl::IsDeadlineExceeded(roll)) {
      return Fail(absl::DeadlineExceededError(
          absl::StrCat(operation, ": ", Message(roll), " after an error: ", Message(status))));
    }
    if (absl::Status heard = Heard(); !heard.ok()) return Fail(std::move(heard));
  }
  options_.rendezvous->Abort(Message(status));  // first, for peers miss the communicator at once
  return Fail(std::move(status));
}

absl::Status NcclGroup::TimedOut(const char* operation, absl::Duration deadline) {
  const std::string after = absl::FormatDuration(deadline);
  if (!made())
    return Fail(absl::DeadlineExceededError(absl::StrCat(operation, ": not done after ", after)));
  const absl::Status roll = RollCall();
  if (absl::IsAborted(roll)) return Fail(roll);
  return Fail(absl::DeadlineExceededError(
      roll.ok() ? absl::StrCat(operation, ": not done after ", after,
                               ", though every rank is there: do all make the same calls?")
                : absl::StrCat(operation, ": ", Message(roll), " after ", after)));
}

void NcclGroup::Abort(const std::string& reason) {
  {
    MutexLock lock(state_);
    if (!failed_.ok()) return;
    failed_ = absl::AbortedError(absl::StrCat("rank ", rank(), ": ", reason));
  }
  options_.rendezvous->Abort(reason);
  Kill();
}

}  // namespace sae::comm
