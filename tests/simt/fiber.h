#pragma once
// A stack and the point where it goes on, by Boost.Context; AddressSanitizer and ThreadSanitizer
// are told of each switch. A fiber belongs to the thread that resumes it. No exception may leave
// its entry function, and the entry function must not return.

#include <cstddef>

namespace sae::simt {

class Fiber {
 public:
  using Entry = void (*)(void* argument);

  /// `index` staggers the stacks: tops at the same place of a page would share few cache lines.
  explicit Fiber(int index);
  ~Fiber();
  Fiber(const Fiber&) = delete;
  Fiber& operator=(const Fiber&) = delete;

  /// The next Resume begins entry(argument) on an empty stack. What ran before is dropped where it
  /// stands: nothing is destroyed.
  void Reset(Entry entry, void* argument);
  /// By the owner's thread: runs the fiber until it calls Suspend.
  void Resume();
  /// By the fiber.
  void Suspend();

  /// Where a handler of a fault may begin a call that never returns: below it the stack is free
  /// once the fiber is given up. 16-byte aligned.
  void* StackTop() const;
  /// For a signal handler: lets code run on this stack although what runs there now is given up.
  void ForgetFrames();

 private:
  struct Switch;
  const std::size_t stagger_;
  char* stack_ = nullptr;    // kStackBytes above a guard page
  void* context_ = nullptr;  // where the fiber goes on
  void* owner_ = nullptr;    // where Resume goes on
  Entry entry_ = nullptr;
  void* argument_ = nullptr;
  void* fake_stack_ = nullptr;  // AddressSanitizer's
  const void* owner_stack_ = nullptr;
  std::size_t owner_stack_bytes_ = 0;
  void* tsan_fiber_ = nullptr;  // ThreadSanitizer's
  void* tsan_owner_ = nullptr;
};

}  // namespace sae::simt
