#include "tests/simt/fiber.h"

#include <boost/context/detail/fcontext.hpp>
#include <cstdint>
#include <sys/mman.h>

#include "sae/base/check.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif
#if defined(__SANITIZE_THREAD__)
#include <sanitizer/tsan_interface.h>
#endif

namespace sae::simt {
namespace {

namespace context = boost::context::detail;

constexpr std::size_t kPage = 4096;
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr std::size_t kStackBytes = 256 * 1024;
#else
constexpr std::size_t kStackBytes = 64 * 1024;
#endif

}  // namespace

struct Fiber::Switch {
  static void Begin(context::transfer_t from) {
    auto* fiber = static_cast<Fiber*>(from.data);
    fiber->owner_ = from.fctx;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &fiber->owner_stack_, &fiber->owner_stack_bytes_);
#endif
    fiber->entry_(fiber->argument_);
    SAE_CHECK_MSG(false, "%s", "a fiber's entry function returned");
  }
};

Fiber::Fiber(int index) : stagger_(static_cast<std::size_t>(index % 61) * 64) {
  void* memory = mmap(nullptr, kPage + kStackBytes, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  SAE_CHECK_MSG(memory != MAP_FAILED, "no memory for a stack of %zu bytes", kStackBytes);
  SAE_CHECK(mprotect(memory, kPage, PROT_NONE) == 0);
  stack_ = static_cast<char*>(memory) + kPage;
}

Fiber::~Fiber() {
#if defined(__SANITIZE_THREAD__)
  if (tsan_fiber_ != nullptr) __tsan_destroy_fiber(tsan_fiber_);
#endif
  ForgetFrames();
  munmap(stack_ - kPage, kPage + kStackBytes);
}

void Fiber::ForgetFrames() {
#if defined(__SANITIZE_ADDRESS__)
  __asan_unpoison_memory_region(stack_, kStackBytes);
#endif
}

void* Fiber::StackTop() const { return stack_ + kStackBytes - stagger_; }

void Fiber::Reset(Entry entry, void* argument) {
  entry_ = entry;
  argument_ = argument;
  fake_stack_ = nullptr;
  ForgetFrames();
#if defined(__SANITIZE_THREAD__)
  if (tsan_fiber_ != nullptr) __tsan_destroy_fiber(tsan_fiber_);
  tsan_fiber_ = __tsan_create_fiber(0);
#endif
  context_ = context::make_fcontext(StackTop(), kStackBytes - stagger_, &Switch::Begin);
}

void Fiber::Resume() {
#if defined(__SANITIZE_ADDRESS__)
  void* fake_stack = nullptr;
  __sanitizer_start_switch_fiber(&fake_stack, stack_, kStackBytes);
#endif
#if defined(__SANITIZE_THREAD__)
  tsan_owner_ = __tsan_get_current_fiber();
  __tsan_switch_to_fiber(tsan_fiber_, 0);
#endif
  context_ = context::jump_fcontext(context_, this).fctx;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
}

void Fiber::Suspend() {
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_start_switch_fiber(&fake_stack_, owner_stack_, owner_stack_bytes_);
#endif
#if defined(__SANITIZE_THREAD__)
  __tsan_switch_to_fiber(tsan_owner_, 0);
#endif
  owner_ = context::jump_fcontext(owner_, nullptr).fctx;
#if defined(__SANITIZE_ADDRESS__)
  __sanitizer_finish_switch_fiber(fake_stack_, &owner_stack_, &owner_stack_bytes_);
#endif
}

}  // namespace sae::simt
