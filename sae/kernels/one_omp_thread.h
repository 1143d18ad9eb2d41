#pragma once
// oneDNN asks OpenMP for the number of threads of the calling thread. Ours are the pool's, so
// around each call into it that number is 1. From libgomp, which oneDNN is built on; declared here
// because clang does not ship omp.h. Thread safety: concerns the calling thread alone.

extern "C" {
int omp_get_max_threads(void);
void omp_set_num_threads(int threads);
}

namespace sae::kernels {

/// One OpenMP thread in this scope; restores the number that was before.
class OneOmpThread {
 public:
  OneOmpThread() : before_(omp_get_max_threads()) {
    if (before_ != 1) omp_set_num_threads(1);
  }
  ~OneOmpThread() {
    if (before_ != 1) omp_set_num_threads(before_);
  }
  OneOmpThread(const OneOmpThread&) = delete;
  OneOmpThread& operator=(const OneOmpThread&) = delete;

 private:
  const int before_;
};

}  // namespace sae::kernels
