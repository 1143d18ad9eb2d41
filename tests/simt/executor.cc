#include "tests/simt/executor.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "absl/strings/str_cat.h"

#include "sae/base/check.h"
#include "sae/base/random.h"
#include "tests/simt/names.h"

namespace sae::simt {

__thread const ThreadView* current_thread = nullptr;

namespace {

// The executor whose kernel runs on this thread: what a kernel's calls, which carry no handle, and
// the signal handler find it by.
__thread Executor* current_executor = nullptr;

dim3 Unflatten(std::uint64_t index, dim3 shape) {
  return {static_cast<unsigned>(index % shape.x), static_cast<unsigned>(index / shape.x % shape.y),
          static_cast<unsigned>(index / shape.x / shape.y)};
}

}  // namespace

std::string LaunchError(const KernelCall& call) {
  const dim3 g = call.grid, b = call.block;
  const std::uint64_t threads = std::uint64_t{b.x} * b.y * b.z;
  if (threads == 0 || threads > 1024 || b.x > 1024 || b.y > 1024 || b.z > 64) {
    return absl::StrCat("blocks of ", DimText(b), " threads: 1 to 1024 are allowed");
  }
  if (g.x > 0x7FFFFFFFU || g.y > 65535 || g.z > 65535) {
    return absl::StrCat("a grid of ", DimText(g),
                        " blocks: at most (2147483647,65535,65535) are allowed");
  }
  if (call.shared_bytes > kSharedLimit) {
    return absl::StrCat(call.shared_bytes, " bytes of dynamic shared memory: at most ",
                        kSharedLimit, " are allowed");
  }
  return "";
}

Executor::Executor(ExecutorOptions options, BarrierLedger* ledger,
                   std::function<std::string(const void*)> describe_address)
    : options_(options), ledger_(ledger), describe_address_(std::move(describe_address)) {}

Executor* Executor::Current() { return current_executor; }

std::string Executor::Run(const KernelCall& call) {
  SAE_CHECK_MSG(current_executor == nullptr, "%s", "a kernel launched a kernel");
  error_ = LaunchError(call);
  if (!error_.empty()) return error_ = absl::StrCat("kernel ", call.name, ": ", error_);
  call_ = &call;
  count_ = static_cast<int>(call.block.x * call.block.y * call.block.z);
  steps_ = 0;
  while (fibers_.size() < static_cast<std::size_t>(count_)) {
    fibers_.push_back(std::make_unique<Fiber>(static_cast<int>(fibers_.size())));
    fresh_.push_back(true);
    fibers_.back()->Reset(&FiberMain, this);
  }
  const std::uint64_t blocks = std::uint64_t{call.grid.x} * call.grid.y * call.grid.z;
  std::vector<std::uint32_t> order(blocks);
  std::iota(order.begin(), order.end(), 0U);
  Random random(HashCounter(options_.seed, 1));
  if (options_.seed % 4 == 1) std::reverse(order.begin(), order.end());
  if (options_.seed % 4 >= 2) {
    for (std::uint64_t i = blocks; i > 1; --i) std::swap(order[i - 1], order[random.Below(i)]);
  }
  current_executor = this;
  StartClock();
  for (std::uint64_t i = 0; i < blocks && error_.empty(); ++i) {
    RunBlock(call, Unflatten(order[i], call.grid), order[i]);
  }
  StopClock();
  current_executor = nullptr;
  current_thread = nullptr;
  call_ = nullptr;
  return error_;
}

void Executor::RunBlock(const KernelCall& call, dim3 block_index, std::uint64_t block_number) {
  shared_.Begin(call.shared_bytes, options_.fill);
  threads_.assign(static_cast<std::size_t>(count_), Thread{});
  for (int t = 0; t < count_; ++t) {
    threads_[static_cast<std::size_t>(t)].view = {
        Unflatten(static_cast<std::uint64_t>(t), call.block), block_index, call.block, call.grid};
  }
  warps_.assign(static_cast<std::size_t>((count_ + 31) / 32), Warp{});
  if (count_ % 32 != 0) warps_.back().absent = ~0U << (count_ % 32);
  at_barrier_ = 0;
  done_ = 0;
  RankThreads(block_number);
  ready_.assign(static_cast<std::size_t>((count_ + 63) / 64), 0);
  for (int t = 0; t < count_; ++t) SetReady(t);
  while (done_ < count_) {
    const int thread = NextReady();
    if (thread < 0) {
      running_ = -1;
      error_ = absl::StrCat("kernel ", call.name, ", block ", DimText(block_index), ": ",
                            DescribeDeadlock());
    } else {
      ResumeThread(thread);
    }
    if (!error_.empty()) break;
  }
  if (error_.empty()) {
    const std::string damage = shared_.Damage();
    if (!damage.empty()) {
      error_ = absl::StrCat("kernel ", call.name, ", block ", DimText(block_index), ": ", damage);
    }
    return;
  }
  for (int t = 0; t < count_; ++t) {  // what did not end is dropped
    const auto i = static_cast<std::size_t>(t);
    if (!fresh_[i]) fibers_[i]->Reset(&FiberMain, this);
    fresh_[i] = true;
  }
}

// rank_[t]: among the threads that can go on the one of lowest rank does. Orders 2 and 3 shuffle
// whole warps and the lanes inside each.
void Executor::RankThreads(std::uint64_t block_number) {
  const auto n = static_cast<std::size_t>(count_);
  rank_.resize(n);
  by_rank_.resize(n);
  const std::uint64_t order = options_.seed % 4;
  random_ = HashCounter(options_.seed, 2, block_number);
  Random random(random_);
  std::iota(by_rank_.begin(), by_rank_.end(), 0);
  if (order == 1) std::reverse(by_rank_.begin(), by_rank_.end());
  if (order >= 2) {
    const std::size_t warps = (n + 31) / 32;
    std::vector<std::size_t> warp(warps);
    std::iota(warp.begin(), warp.end(), std::size_t{0});
    for (std::size_t i = warps; i > 1; --i) std::swap(warp[i - 1], warp[random.Below(i)]);
    std::size_t next = 0;
    for (const std::size_t w : warp) {
      const std::size_t begin = next;
      for (std::size_t t = 32 * w; t < std::min(n, 32 * w + 32); ++t) {
        by_rank_[next++] = static_cast<int>(t);
      }
      for (std::size_t i = next; i > begin + 1; --i) {
        std::swap(by_rank_[i - 1], by_rank_[begin + random.Below(i - begin)]);
      }
    }
  }
  for (std::size_t r = 0; r < n; ++r) {
    rank_[static_cast<std::size_t>(by_rank_[r])] = static_cast<int>(r);
  }
}

void Executor::SetReady(int thread) {
  const auto rank = static_cast<std::size_t>(rank_[static_cast<std::size_t>(thread)]);
  threads_[static_cast<std::size_t>(thread)].state = State::kReady;
  ready_[rank / 64] |= std::uint64_t{1} << (rank % 64);
}

// Takes a thread that can go on, or gives -1.
int Executor::NextReady() {
  std::size_t first = 0;
  std::uint64_t first_mask = ~std::uint64_t{0};
  if (options_.seed % 4 == 2) {
    random_ = Mix64(random_ + 0x9E3779B97F4A7C15ULL);
    const std::uint64_t start = random_ % static_cast<std::uint64_t>(count_);
    first = start / 64;
    first_mask <<= start % 64;
  }
  const std::size_t words = ready_.size();
  for (std::size_t i = 0; i <= words; ++i) {  // the first word twice: its low bits last
    const std::size_t word = (first + i) % words;
    const std::uint64_t bits = ready_[word] & (i == 0 ? first_mask : ~std::uint64_t{0});
    if (bits == 0) continue;
    const auto bit = static_cast<std::size_t>(__builtin_ctzll(bits));
    ready_[word] &= ~(std::uint64_t{1} << bit);
    return by_rank_[64 * word + bit];
  }
  return -1;
}

void Executor::ResumeThread(int thread) {
  const auto i = static_cast<std::size_t>(thread);
  running_ = thread;
  if (++steps_ > options_.step_limit) {
    error_ = absl::StrCat(Where(thread), ": the kernel did not end within ", options_.step_limit,
                          " switches");
    return;
  }
  if (overtime_ != 0) {
    error_ = absl::StrCat(Where(thread), ": the kernel did not end within ", options_.seconds_limit,
                          " s of processor time");
    return;
  }
  current_thread = &threads_[i].view;
  fresh_[i] = false;
  fibers_[i]->Resume();
}

void Executor::FiberMain(void* executor) {
  auto* self = static_cast<Executor*>(executor);
  for (;;) {
    self->in_kernel_ = 1;
    self->call_->body();
    self->in_kernel_ = 0;
    ++self->done_;
    self->warps_[static_cast<std::size_t>(self->running_ / 32)].absent |= 1U << self->running_ % 32;
    self->Suspend(State::kDone);
  }
}

// By the fiber of running_; returns when the thread is resumed.
void Executor::Suspend(State state) {
  in_kernel_ = 0;
  const auto i = static_cast<std::size_t>(running_);
  threads_[i].state = state;
  fibers_[i]->Suspend();
  in_kernel_ = state == State::kDone ? 0 : 1;
}

bool Executor::NoteError(const std::string& what) {
  if (what.empty()) return false;
  error_ = absl::StrCat(Where(running_), ": ", what);
  return true;
}

void Executor::GiveUp() {
  in_kernel_ = 0;
  for (;;) fibers_[static_cast<std::size_t>(running_)]->Suspend();
}

bool Executor::IsDeleted(const char* file, int id) {
  for (const KnownBarrier& known : known_) {
    if (known.file == file && known.id == id) return known.deleted;
  }
  bool deleted = false;
  if (ledger_ != nullptr) {
    const BarrierId barrier{FileName(file), id};
    ledger_->NoteExecuted(barrier);
    deleted = ledger_->IsDeleted(barrier);
  }
  known_.push_back({file, id, deleted});
  return deleted;
}

void Executor::Barrier(const char* file, int id) {
  in_kernel_ = 0;
  if (IsDeleted(file, id)) {
    in_kernel_ = 1;
    return;
  }
  Thread& self = threads_[static_cast<std::size_t>(running_)];
  self.file = file;
  self.id = id;
  if (at_barrier_ == 0) first_at_barrier_ = running_;
  const Thread& first = threads_[static_cast<std::size_t>(first_at_barrier_)];
  if (first.file != file || first.id != id) {
    NoteError(absl::StrCat("divergent barrier: came to barrier ", FileName(file), ":", id,
                           " while thread ", DimText(first.view.thread), " waits at barrier ",
                           FileName(first.file), ":", first.id));
    GiveUp();
  }
  if (++at_barrier_ < count_) {
    Suspend(State::kAtBarrier);
    return;
  }
  at_barrier_ = 0;
  for (int t = 0; t < count_; ++t) SetReady(t);
  Suspend(State::kReady);
}

void* Executor::StaticShared(const void* key, const char* name, std::size_t bytes,
                             std::size_t alignment) {
  void* memory = shared_.Static(key, name, bytes, alignment);
  if (memory == nullptr) {
    NoteError(absl::StrCat("no room for shared array '", name, "' of ", bytes,
                           " bytes: a block has ", kStaticSharedLimit, " for static arrays and ",
                           kSharedLimit, " in all"));
    GiveUp();
  }
  return memory;
}

std::string Executor::Where(int thread) const {
  const ThreadView& view = threads_[static_cast<std::size_t>(thread)].view;
  return absl::StrCat("kernel ", call_->name, ", block ", DimText(view.block), ", thread ",
                      DimText(view.thread));
}

std::string Executor::Waiting(int thread) const {
  const Thread& t = threads_[static_cast<std::size_t>(thread)];
  const std::string name = absl::StrCat("thread ", DimText(t.view.thread));
  switch (t.state) {
    case State::kDone:
      return absl::StrCat(name, " has ended");
    case State::kAtBarrier:
      return absl::StrCat(name, " waits at barrier ", FileName(t.file), ":", t.id);
    case State::kAtWarp:
      return absl::StrCat(name, " waits in ", WarpOpText(t.op, t.file, t.id), " with mask ",
                          MaskText(t.mask));
    case State::kReady:
      break;
  }
  return absl::StrCat(name, " can go on");
}

// No thread can go on, some have not ended: names one that waits and one that it waits for.
std::string Executor::DescribeDeadlock() const {
  for (int t = 0; t < count_; ++t) {
    const Thread& waiting = threads_[static_cast<std::size_t>(t)];
    if (waiting.state != State::kAtWarp) continue;
    for (int lane = 0; lane < 32; ++lane) {
      const int other = t / 32 * 32 + lane;
      if (((waiting.mask >> lane) & 1U) == 0 || other >= count_) continue;
      const Thread& missing = threads_[static_cast<std::size_t>(other)];
      if (missing.state == State::kAtWarp && missing.mask == waiting.mask) continue;
      return absl::StrCat("divergent warp: ", Waiting(t), ", but ", Waiting(other));
    }
  }
  for (int t = 0; t < count_; ++t) {
    if (threads_[static_cast<std::size_t>(t)].state != State::kAtBarrier) continue;
    for (int other = 0; other < count_; ++other) {
      if (threads_[static_cast<std::size_t>(other)].state == State::kAtBarrier) continue;
      return absl::StrCat("divergent barrier: ", Waiting(t), ", but ", Waiting(other));
    }
  }
  return "no thread can go on";
}

// What kernels call.

void Barrier(const char* file, int id) { current_executor->Barrier(file, id); }
void WarpBarrier(const char* file, int id) { current_executor->WarpBarrier(file, id); }
std::uint64_t WarpExchange(WarpOp op, unsigned mask, std::uint64_t value, int argument, int width) {
  return current_executor->WarpExchange(op, mask, value, argument, width);
}
void* StaticShared(const void* key, const char* name, std::size_t bytes, std::size_t alignment) {
  return current_executor->StaticShared(key, name, bytes, alignment);
}
void* DynamicShared() { return current_executor->DynamicShared(); }

}  // namespace sae::simt
