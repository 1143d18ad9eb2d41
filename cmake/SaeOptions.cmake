include(CMakeDependentOption)
option(SAE_BUILD_TESTS   "Build unit and integration tests" ${PROJECT_IS_TOP_LEVEL})
option(SAE_BUILD_BENCH   "Build benchmarks" OFF)
option(SAE_BUILD_SERVICE "Build server, worker and client (needs gRPC, Protobuf)" ON)
option(SAE_WITH_CUDA     "Build the CUDA kernels" OFF)
option(SAE_WITH_DNNL     "Use oneDNN for products on the CPU; without it they are plain loops" ON)
option(SAE_WITH_MPI      "Build the MPI communicator" ON)
option(SAE_WITH_TORCH    "Build what needs LibTorch (the language model and what runs it)" ON)
cmake_dependent_option(SAE_WITH_NCCL "Build the NCCL communicator" ON "SAE_WITH_CUDA" OFF)
cmake_dependent_option(SAE_WITH_SIMT "Build the tests that run device code on the CPU" ON "SAE_BUILD_TESTS" OFF)
option(SAE_FAILPOINTS    "Compile in the points at which tests make the daemons die or fail" ${SAE_BUILD_TESTS})
option(SAE_UNITY         "Compile the sources of a target eight at a time: faster from nothing, slower after a small change" OFF)
option(SAE_WERROR        "Treat warnings as errors" OFF)
set(LIBTORCH_ROOT "${PROJECT_SOURCE_DIR}/third_party/libtorch/torch" CACHE PATH "Folder torch/ of the unpacked wheel")
set(SAE_SANITIZE "" CACHE STRING "address,undefined | thread | (empty)")

# A compiler cache and a fast linker where they are installed; neither is required.
find_program(SAE_CCACHE ccache)
if(SAE_CCACHE AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # The cache is shared by all build folders of this tree; precompiled headers need the sloppiness.
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env
    CCACHE_BASEDIR=${PROJECT_SOURCE_DIR} CCACHE_NOHASHDIR=1
    CCACHE_SLOPPINESS=pch_defines,time_macros,include_file_mtime,include_file_ctime ${SAE_CCACHE})
endif()
find_program(SAE_MOLD mold)
if(SAE_MOLD)
  add_link_options(-fuse-ld=mold)
endif()

if(SAE_UNITY)
  set(CMAKE_UNITY_BUILD ON)
  if(NOT DEFINED CMAKE_UNITY_BUILD_BATCH_SIZE)
    set(CMAKE_UNITY_BUILD_BATCH_SIZE 8)
  endif()
endif()

set(CMAKE_CXX_STANDARD 20)
set(CMAKE_CXX_STANDARD_REQUIRED ON)
set(CMAKE_CXX_EXTENSIONS OFF)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY "${PROJECT_BINARY_DIR}/bin")
# Debug information for stack traces and line tables; full -g doubles the build time and the size of build/.
set(CMAKE_CXX_FLAGS_RELWITHDEBINFO "-O2 -g1")

if(SAE_WITH_CUDA)
  # CMake 3.25.1 (Debian 12) does not know nvcc's C++20 flag (3.25.2 does), so
  # device code is C++17 by rule and its headers are C++17-clean.
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  # One runtime in a process: the C++ side links CUDA::cudart, which is the shared one.
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 90a-real)
  endif()
  enable_language(CUDA)
endif()
