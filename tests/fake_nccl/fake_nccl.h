#pragma once
// A stand-in for NCCL: the entry points of nccl.h between processes over a shared file, on memory
// that the host can read, in the streams of a DeviceRuntime (by its host callbacks). It behaves as
// NCCL does with non-blocking communicators, errors and aborts included, and fails on order. Sums
// are added from the last rank down, so that nobody can rely on rank order. Calls that do not fit
// between ranks end in an asynchronous ncclInvalidUsage where NCCL would hang or do worse. A
// communicator that is used after it was destroyed or aborted ends the process. It keeps one set of
// settings a process, as NCCL does its environment; Configure is called before any of
// NCCL's.

#include <string>
#include <vector>

#include "sae/base/device_runtime.h"

namespace fake_nccl {

enum class Kind {
  kSlowStart,    ///< the communicator is in progress for `amount` more polls
  kNeverStarts,  ///< this rank does not come to the start
  kFailedStart,  ///< ncclSystemError while starting
  kSlowEnqueue,  ///< every operation is in progress for `amount` polls
  kBadEnqueue,   ///< the operation's call returns ncclUnhandledCudaError
  kRemoteError,  ///< the operation does not end, and the communicator has ncclRemoteError
  kHang,         ///< the operation does nothing until it is aborted
  kStuck,        ///< the same, and the stream goes on only `amount` ms after the abort
  kStuckSplit,   ///< a split that is aborted stores what it made, and ends, `amount` ms later
  kDie           ///< SIGKILL when half of the operation's data has been sent
};

struct Fault {
  Kind kind = Kind::kHang;
  int operation = -1;  ///< number of the operation on the first communicator; -1: any
  int amount = 0;
};

struct Settings {
  sae::DeviceRuntime* runtime = nullptr;  ///< whose streams and memory are used; outlives all
  std::string folder;                     ///< for the shared files; the same for all ranks
  std::vector<Fault> faults;
  /// Whether a rank hears at once that its neighbour's communicator was destroyed or aborted, as it
  /// does over sockets: work under way ends in ncclRemoteError. If not it waits, as it does over
  /// shared memory. The neighbour is the next rank, so that the news travels from rank to rank.
  bool hears_leaving = false;
};

void Configure(const Settings& settings);
/// While true, ncclCommAbort does not come back, as NCCL's does not while a graph holds operations
/// of the communicator.
void HoldByGraphs(bool held);
/// Communicators that were made and neither destroyed nor aborted.
int Live();

}  // namespace fake_nccl
