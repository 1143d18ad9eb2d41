#include "tests/fake_nccl/fake_nccl.h"

#include <algorithm>
#include <atomic>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <unistd.h>
#include <utility>

#include "sae/base/clock.h"
#include "sae/base/mutex.h"
#include "sae/comm/backoff.h"
#include "tests/fake_nccl/channel.h"
#include "tests/fake_nccl/nccl.h"
#include "tests/fake_nccl/task.h"

namespace fake_nccl {
namespace {

/// What a process's NCCL would keep: its settings, and all communicators ever made, which stay so
/// that a graph or a late call finds its own.
struct Library {
  Settings settings;
  std::atomic<bool> held{false};
  std::atomic<const char*> last_error{"injected"};
  sae::Mutex mu;
  std::vector<std::unique_ptr<ncclComm>> comms ABSL_GUARDED_BY(mu);
};

Library& TheLibrary() {
  static Library& library = *new Library;  // streams may still call while the process ends
  return library;
}

[[noreturn]] void Misuse(const char* what) {
  std::fprintf(stderr, "fake NCCL: %s\n", what);
  std::abort();
}

}  // namespace
}  // namespace fake_nccl

using fake_nccl::Board;
using fake_nccl::Fault;
using fake_nccl::Kind;
using fake_nccl::Misuse;
using fake_nccl::Op;
using fake_nccl::TheLibrary;

/// A group of calls in a stream.
struct Task {
  ncclComm* comm;
  std::vector<Op> ops;
};

struct ncclComm {
  int rank = 0;
  int ranks = 1;
  bool first = false;  // faults with a number concern this one
  std::string path;
  std::unique_ptr<fake_nccl::SharedBoard> board;

  std::atomic<bool> aborted{false};
  std::atomic<int> running{0};
  std::atomic<int> executed{0};
  std::atomic<bool> splitting{false};  // in split_job
  std::atomic<ncclResult_t> error{ncclSuccess};
  // Below: of the thread that calls, which the backend sees to.
  bool gone = false;
  bool joined = false;
  int polls = 0;  // for which it is still in progress
  int splits = 0;
  std::thread split_job;
  std::vector<std::unique_ptr<Task>> tasks;

  const Fault* Find(Kind kind, int operation) const {
    for (const Fault& fault : TheLibrary().settings.faults) {
      if (fault.kind == kind && (fault.operation == -1 || (first && fault.operation == operation)))
        return &fault;
    }
    return nullptr;
  }

  bool NeighbourHasLeft() const {
    return TheLibrary().settings.hears_leaving &&
           board->get()->left[static_cast<std::size_t>((rank + 1) % ranks)] != 0;
  }
};

namespace {

ncclComm* Keep(std::unique_ptr<ncclComm> comm) {
  fake_nccl::Library& library = TheLibrary();
  sae::MutexLock lock(library.mu);
  library.comms.push_back(std::move(comm));
  return library.comms.back().get();
}

ncclComm* NewComm(int rank, int ranks, bool first, const std::string& path) {
  auto comm = std::make_unique<ncclComm>();
  comm->rank = rank;
  comm->ranks = ranks;
  comm->first = first;
  comm->path = path;
  comm->board = std::make_unique<fake_nccl::SharedBoard>(path);
  Board* board = comm->board->get();
  if (board == nullptr) return nullptr;
  int said = 0;
  if (!board->ranks.compare_exchange_strong(said, ranks) && said != ranks) return nullptr;
  if (const Fault* slow = comm->Find(Kind::kSlowStart, 0); first && slow != nullptr)
    comm->polls = slow->amount;
  if (comm->Find(Kind::kNeverStarts, 0) == nullptr) board->joined.fetch_add(1);
  return Keep(std::move(comm));
}

void MustLive(const ncclComm* comm, const char* call) {
  if (comm == nullptr || comm->gone) Misuse(call);
}

/// What each rank said at the split `number`, as members (key, rank) of `color`. False: not all
/// have.
bool GatherSplit(ncclComm* comm, int number, int color, std::vector<std::pair<int, int>>* members) {
  const auto& notes = comm->board->get()->splits[static_cast<std::size_t>(number)];
  members->clear();
  for (int r = 0; r < comm->ranks; ++r) {
    const fake_nccl::SplitNote& note = notes[static_cast<std::size_t>(r)];
    if (note.said.load(std::memory_order_acquire) == 0) return false;
    if (note.color == color) members->emplace_back(note.key, r);
  }
  std::sort(members->begin(), members->end());
  return true;
}

/// Polls until `done`, or `comm` is aborted or hears that a rank has left.
template <class F>
ncclResult_t Await(ncclComm* comm, const F& done) {
  sae::comm::Backoff backoff;
  for (;;) {
    const bool last = comm->NeighbourHasLeft();
    if (done()) return ncclSuccess;
    if (comm->aborted) return ncclInternalError;
    if (last) return ncclRemoteError;
    backoff.Pause();
  }
}

void SetError(ncclComm* comm, ncclResult_t error) {
  if (error == ncclRemoteError)
    TheLibrary().last_error = "socketProgress: Connection closed by remote peer";
  comm->error = error;
}

/// The part that `comm` is in, or one that is as good as failed, which its owner must still abort.
ncclComm* MakePart(ncclComm* comm, int number, int color, int key) {
  std::vector<std::pair<int, int>> members;
  ncclComm* part = nullptr;
  ncclResult_t result = Await(comm, [&] { return GatherSplit(comm, number, color, &members); });
  if (result == ncclSuccess) {
    const auto own = std::find(members.begin(), members.end(), std::pair(key, comm->rank));
    part = NewComm(static_cast<int>(own - members.begin()), static_cast<int>(members.size()), false,
                   comm->path + ".s" + std::to_string(number) + "c" + std::to_string(color));
  }
  if (part != nullptr)
    result = Await(comm, [&] { return part->board->get()->joined.load() == part->ranks; });
  if (part == nullptr) part = Keep(std::make_unique<ncclComm>());
  part->joined = result == ncclSuccess;
  part->error = result;
  return part;
}

/// On a thread of its own, as NCCL's. What comes of it is stored in any case, also after an abort.
void RunSplit(ncclComm* comm, ncclComm** made, int number, int color, int key) {
  ncclComm* const part = MakePart(comm, number, color, key);
  if (const Fault* stuck = comm->Find(Kind::kStuckSplit, -1); stuck != nullptr && comm->aborted)
    sae::RealClock().SleepFor(absl::Milliseconds(stuck->amount));
  if (part->error != ncclSuccess) SetError(comm, part->error);
  std::atomic_ref<ncclComm*>(*made).store(part, std::memory_order_release);
  comm->splitting = false;
}

/// The state without a look at how far things have come.
ncclResult_t Known(const ncclComm* comm) {
  if (comm->splitting) return ncclInProgress;
  if (comm->error != ncclSuccess) return comm->error;
  return comm->joined && comm->polls == 0 ? ncclSuccess : ncclInProgress;
}

ncclResult_t StateOf(ncclComm* comm) {
  if (const ncclResult_t known = Known(comm); known != ncclInProgress) return known;
  if (!comm->joined) {
    if (comm->Find(Kind::kFailedStart, 0) != nullptr) return ncclSystemError;
    comm->joined = comm->board->get()->joined.load() == comm->ranks;
  } else if (comm->polls > 0) {
    --comm->polls;
    return ncclInProgress;
  }
  return Known(comm);
}

/// NCCL takes a call only when all of before has succeeded, and was seen to.
ncclResult_t Ready(const ncclComm* comm) {
  const ncclResult_t known = Known(comm);
  if (known != ncclInProgress) return known;
  TheLibrary().last_error =
      "Attempt to use communicator before the previous operation returned ncclSuccess";
  return ncclInvalidArgument;
}

/// The task's turn in the stream has come.
void Execute(void* data) {
  auto* const task = static_cast<Task*>(data);
  ncclComm* const comm = task->comm;
  const int number = comm->executed.fetch_add(1);
  comm->running.fetch_add(1);  // first: an abort either waits for it or is seen below
  if (comm->aborted) {
    comm->running.fetch_sub(1);
    return;
  }
  const auto aborted = [comm] { return comm->aborted.load(); };
  const auto wait_for_abort = [&] {
    sae::comm::Backoff backoff;
    while (!aborted()) backoff.Pause();
  };
  if (comm->Find(Kind::kRemoteError, number) != nullptr) {
    SetError(comm, ncclRemoteError);
    wait_for_abort();
  } else if (comm->Find(Kind::kHang, number) != nullptr) {
    wait_for_abort();
  } else if (const Fault* stuck = comm->Find(Kind::kStuck, number); stuck != nullptr) {
    wait_for_abort();
    comm->running.fetch_sub(1);  // an abort that does not wait for the device
    sae::RealClock().SleepFor(absl::Milliseconds(stuck->amount));
    return;
  } else {
    const bool dies = comm->Find(Kind::kDie, number) != nullptr;
    const auto half_sent = [dies] {
      if (dies) ::kill(::getpid(), SIGKILL);
    };
    const auto broken = [comm] { return comm->NeighbourHasLeft(); };
    const fake_nccl::Outcome outcome =
        RunOps(comm->board->get(), comm->rank, comm->ranks, task->ops, aborted, broken, half_sent);
    const bool mismatch = outcome == fake_nccl::Outcome::kMismatch;
    if (mismatch || outcome == fake_nccl::Outcome::kBroken) {
      SetError(comm, mismatch ? ncclInvalidUsage : ncclRemoteError);
      wait_for_abort();
    }
  }
  comm->running.fetch_sub(1);
}

/// Calls between ncclGroupStart and ncclGroupEnd; NCCL keeps them by thread as well.
struct Group {
  int depth = 0;
  ncclComm* comm = nullptr;
  void* stream = nullptr;
  std::vector<Op> ops;
};
thread_local Group group;

ncclResult_t Launch() {
  ncclComm* const comm = std::exchange(group.comm, nullptr);
  if (comm == nullptr) return ncclSuccess;  // an empty group
  comm->tasks.push_back(std::make_unique<Task>(Task{comm, std::exchange(group.ops, {})}));
  const int number = static_cast<int>(comm->tasks.size()) - 1;
  if (comm->Find(Kind::kBadEnqueue, number) != nullptr) return ncclUnhandledCudaError;
  const absl::Status status =
      TheLibrary().settings.runtime->HostCallback(Execute, comm->tasks.back().get(), group.stream);
  if (!status.ok()) return ncclUnhandledCudaError;
  const Fault* slow = comm->Find(Kind::kSlowEnqueue, number);
  if (slow == nullptr) return ncclSuccess;
  comm->polls += slow->amount;
  return ncclInProgress;
}

ncclResult_t Add(ncclComm* comm, cudaStream_t stream, const Op& op) {
  MustLive(comm, "an operation on a communicator that is gone");
  if (const ncclResult_t ready = Ready(comm); ready != ncclSuccess) return ready;
  if (op.count > 0 && op.input == nullptr && op.output == nullptr) return ncclInvalidArgument;
  const bool message = op.call == fake_nccl::Call::kSend || op.call == fake_nccl::Call::kRecv;
  if (op.peer < 0 || op.peer >= comm->ranks) return ncclInvalidArgument;
  if (message && group.depth == 0) Misuse("a message outside of a group");
  if (group.comm != nullptr && (group.comm != comm || group.stream != stream))
    Misuse("a group over two communicators or streams");
  group.comm = comm;
  group.stream = stream;
  group.ops.push_back(op);
  return group.depth > 0 ? ncclSuccess : Launch();
}

Op Make(fake_nccl::Call call, const void* input, void* output, std::size_t count,
        ncclDataType_t type, ncclRedOp_t op, int peer) {
  return {.call = call,
          .input = static_cast<const unsigned char*>(input),
          .output = static_cast<unsigned char*>(output),
          .count = count,
          .type = type,
          .op = op,
          .peer = peer};
}

}  // namespace

namespace fake_nccl {

void Configure(const Settings& settings) { TheLibrary().settings = settings; }

void HoldByGraphs(bool held) { TheLibrary().held = held; }

int Live() {
  Library& library = TheLibrary();
  sae::MutexLock lock(library.mu);
  return static_cast<int>(std::count_if(library.comms.begin(), library.comms.end(),
                                        [](const auto& comm) { return !comm->gone; }));
}

}  // namespace fake_nccl

extern "C" {

const char* ncclGetErrorString(ncclResult_t result) {
  switch (result) {
    case ncclSuccess:
      return "no error";
    case ncclUnhandledCudaError:
      return "unhandled cuda error";
    case ncclSystemError:
      return "unhandled system error";
    case ncclInternalError:
      return "internal error";
    case ncclInvalidArgument:
      return "invalid argument";
    case ncclInvalidUsage:
      return "invalid usage";
    case ncclRemoteError:
      return "remote process exited or there was a network error";
    case ncclInProgress:
      return "operation in progress";
  }
  return "unknown";
}

const char* ncclGetLastError(ncclComm_t) { return TheLibrary().last_error; }

ncclResult_t ncclGetUniqueId(ncclUniqueId* id) {
  std::random_device random;
  const std::string name = "comm-" + std::to_string(::getpid()) + "-" + std::to_string(random());
  std::memset(id->internal, 0, sizeof(id->internal));
  std::memcpy(id->internal, name.data(), name.size());
  return ncclSuccess;
}

ncclResult_t ncclCommInitRankConfig(ncclComm_t* comm, int ranks, ncclUniqueId id, int rank,
                                    ncclConfig_t* config) {
  if (config->blocking != 0) Misuse("only non-blocking communicators are offered");
  if (ranks > fake_nccl::kMaxRanks || rank < 0 || rank >= ranks) return ncclInvalidArgument;
  *comm = NewComm(rank, ranks, true, TheLibrary().settings.folder + "/" + id.internal);
  return *comm == nullptr ? ncclSystemError : ncclInProgress;
}

ncclResult_t ncclCommSplit(ncclComm_t comm, int color, int key, ncclComm_t* part,
                           ncclConfig_t* config) {
  MustLive(comm, "a split of a communicator that is gone");
  if (config->blocking != 0) Misuse("only non-blocking communicators are offered");
  *part = nullptr;
  if (const ncclResult_t ready = Ready(comm); ready != ncclSuccess) return ready;
  if (comm->splits == fake_nccl::kMaxSplits) Misuse("more splits than the fake has room for");
  if (comm->split_job.joinable()) comm->split_job.join();
  fake_nccl::SplitNote& note =
      comm->board->get()
          ->splits[static_cast<std::size_t>(comm->splits)][static_cast<std::size_t>(comm->rank)];
  note.color = color;
  note.key = key;
  note.said.store(1, std::memory_order_release);
  if (const Fault* slow = comm->Find(Kind::kSlowStart, -1); slow != nullptr)
    comm->polls += slow->amount;
  comm->splitting = true;
  comm->split_job = std::thread(RunSplit, comm, part, comm->splits++, color, key);
  return ncclSuccess;  // as NCCL does, which loses the state of the group of calls that this is
}

ncclResult_t ncclCommGetAsyncError(ncclComm_t comm, ncclResult_t* error) {
  MustLive(comm, "a question to a communicator that is gone");
  *error = StateOf(comm);
  return ncclSuccess;
}

ncclResult_t ncclCommFinalize(ncclComm_t comm) {
  MustLive(comm, "a communicator that is gone is finalised");
  if (const ncclResult_t ready = Ready(comm); ready != ncclSuccess) return ready;
  comm->polls += 2;
  return ncclInProgress;
}

ncclResult_t ncclCommDestroy(ncclComm_t comm) {
  MustLive(comm, "a communicator that is gone is destroyed");
  if (comm->running != 0) Misuse("a communicator with running operations is destroyed");
  if (const ncclResult_t ready = Ready(comm); ready != ncclSuccess) return ready;
  if (comm->split_job.joinable()) comm->split_job.join();
  comm->board->get()->left[static_cast<std::size_t>(comm->rank)] = 1;
  comm->gone = true;
  return ncclSuccess;
}

ncclResult_t ncclCommAbort(ncclComm_t comm) {
  MustLive(comm, "a communicator that is gone is aborted");
  comm->gone = true;
  comm->aborted = true;
  if (comm->board != nullptr) comm->board->get()->left[static_cast<std::size_t>(comm->rank)] = 1;
  if (comm->split_job.joinable()) comm->split_job.join();
  sae::comm::Backoff backoff;
  while (comm->running != 0 || TheLibrary().held) backoff.Pause();
  return ncclSuccess;
}

ncclResult_t ncclCommCount(const ncclComm_t comm, int* count) {
  MustLive(comm, "the size of a communicator that is gone");
  *count = comm->ranks;
  return Ready(comm);
}

ncclResult_t ncclCommUserRank(const ncclComm_t comm, int* rank) {
  MustLive(comm, "the rank in a communicator that is gone");
  *rank = comm->rank;
  return Ready(comm);
}

ncclResult_t ncclGroupStart() {
  ++group.depth;
  return ncclSuccess;
}

ncclResult_t ncclGroupEnd() {
  if (group.depth == 0) return ncclInvalidUsage;
  return --group.depth > 0 ? ncclSuccess : Launch();
}

ncclResult_t ncclAllReduce(const void* input, void* output, std::size_t count, ncclDataType_t type,
                           ncclRedOp_t op, ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream, Make(fake_nccl::Call::kAllReduce, input, output, count, type, op, 0));
}

ncclResult_t ncclReduceScatter(const void* input, void* output, std::size_t count,
                               ncclDataType_t type, ncclRedOp_t op, ncclComm_t comm,
                               cudaStream_t stream) {
  return Add(comm, stream,
             Make(fake_nccl::Call::kReduceScatter, input, output, count, type, op, 0));
}

ncclResult_t ncclAllGather(const void* input, void* output, std::size_t count, ncclDataType_t type,
                           ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream,
             Make(fake_nccl::Call::kAllGather, input, output, count, type, ncclSum, 0));
}

ncclResult_t ncclBroadcast(const void* input, void* output, std::size_t count, ncclDataType_t type,
                           int root, ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream,
             Make(fake_nccl::Call::kBroadcast, input, output, count, type, ncclSum, root));
}

ncclResult_t ncclSend(const void* input, std::size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream,
             Make(fake_nccl::Call::kSend, input, nullptr, count, type, ncclSum, peer));
}

ncclResult_t ncclRecv(void* output, std::size_t count, ncclDataType_t type, int peer,
                      ncclComm_t comm, cudaStream_t stream) {
  return Add(comm, stream,
             Make(fake_nccl::Call::kRecv, nullptr, output, count, type, ncclSum, peer));
}

}  // extern "C"
