// Faults and kernels that do not end. The handler runs on a stack of its own, notes what happened
// and lets the thread go on in Continue, on the fiber's stack from its top: the fiber is given up
// there, its frames are not needed any more. Faults outside kernels go to the handler before.
#include <cerrno>
#include <cstdio>
#include <mutex>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#include "absl/strings/str_cat.h"

#include "sae/base/check.h"
#include "tests/simt/executor.h"
#include "tests/simt/names.h"

namespace sae::simt {
namespace {

struct sigaction previous_segv, previous_bus;  // written once, before the first kernel

int OvertimeSignal() { return SIGRTMIN + 3; }

}  // namespace

struct FaultHandler {
  [[noreturn]] static void Continue() {
    Executor::Current()->NoteFault();
    Executor::Current()->GiveUp();
  }

  static void Redirect(Executor* executor, void* context) {
    executor->in_kernel_ = 0;
    Fiber& fiber = *executor->fibers_[static_cast<std::size_t>(executor->running_)];
    fiber.ForgetFrames();
    auto* registers = static_cast<ucontext_t*>(context)->uc_mcontext.gregs;
    registers[REG_RSP] = reinterpret_cast<greg_t>(fiber.StackTop()) - 128 - 8;
    registers[REG_RIP] = reinterpret_cast<greg_t>(&Continue);
  }

  static void OnFault(int signal, siginfo_t* info, void* context) {
    Executor* executor = Executor::Current();
    if (executor == nullptr || executor->in_kernel_ == 0) {
      sigaction(signal, signal == SIGSEGV ? &previous_segv : &previous_bus, nullptr);
      return;  // the instruction faults again, for the handler before
    }
    executor->fault_address_ = info->si_addr;
    executor->fault_is_write_ =
        (static_cast<ucontext_t*>(context)->uc_mcontext.gregs[REG_ERR] & 2) != 0 ? 1 : 0;
    executor->fault_is_overtime_ = 0;
    Redirect(executor, context);
  }

  static void OnOvertime(int, siginfo_t* info, void* context) {
    auto* executor = static_cast<Executor*>(info->si_value.sival_ptr);
    if (executor != Executor::Current()) return;  // the kernel ended meanwhile
    executor->overtime_ = 1;
    if (executor->in_kernel_ == 0) return;  // seen at the next switch
    executor->fault_is_overtime_ = 1;
    Redirect(executor, context);
  }

  static void Install() {
    struct sigaction action = {};
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigemptyset(&action.sa_mask);
    action.sa_sigaction = &OnFault;
    SAE_CHECK(sigaction(SIGSEGV, &action, &previous_segv) == 0);
    SAE_CHECK(sigaction(SIGBUS, &action, &previous_bus) == 0);
    action.sa_flags |= SA_RESTART;
    action.sa_sigaction = &OnOvertime;
    SAE_CHECK(sigaction(OvertimeSignal(), &action, nullptr) == 0);
  }
};

void Executor::StartClock() {
  static std::once_flag installed;
  std::call_once(installed, FaultHandler::Install);
  if (signal_stack_.empty()) {
    signal_stack_.resize(64 * 1024);
    stack_t stack = {};
    stack.ss_sp = signal_stack_.data();
    stack.ss_size = signal_stack_.size();
    SAE_CHECK(sigaltstack(&stack, &signal_stack_before_) == 0);
    sigevent event = {};
    event.sigev_notify = SIGEV_THREAD_ID;
    event.sigev_signo = OvertimeSignal();
    event.sigev_value.sival_ptr = this;
    event._sigev_un._tid = static_cast<pid_t>(syscall(SYS_gettid));
    has_timer_ = timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &timer_) == 0;
    SAE_CHECK_MSG(has_timer_, "timer_create: errno %d", errno);
  }
  overtime_ = 0;
  itimerspec limit = {};
  limit.it_value.tv_sec = static_cast<time_t>(options_.seconds_limit);
  limit.it_value.tv_nsec = static_cast<long>(
      (options_.seconds_limit - static_cast<double>(limit.it_value.tv_sec)) * 1e9);
  SAE_CHECK(timer_settime(timer_, 0, &limit, nullptr) == 0);
}

void Executor::StopClock() {
  const itimerspec off = {};
  SAE_CHECK(timer_settime(timer_, 0, &off, nullptr) == 0);
}

Executor::~Executor() {
  if (has_timer_) timer_delete(timer_);
  if (signal_stack_.empty()) return;
  sigaltstack(&signal_stack_before_, nullptr);
}

void Executor::NoteFault() {
  if (fault_is_overtime_ != 0) {
    NoteError(absl::StrCat("the kernel did not end within ", options_.seconds_limit,
                           " s of processor time"));
    return;
  }
  std::string where = shared_.Describe(fault_address_);
  if (where.empty() && describe_address_ != nullptr) where = describe_address_(fault_address_);
  if (where.empty()) {
    char text[64];
    std::snprintf(text, sizeof(text), "at %p, which is in no buffer", fault_address_);
    where = text;
  }
  NoteError(absl::StrCat(fault_is_write_ != 0 ? "writes " : "reads ", where));
}

}  // namespace sae::simt
