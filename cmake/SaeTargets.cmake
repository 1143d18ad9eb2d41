# Flags live on one INTERFACE target that is linked PRIVATE: they never leak to
# a consumer, and no directory-wide add_compile_options is used anywhere.
add_library(sae_flags INTERFACE)
target_compile_options(sae_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-Wall;-Wextra;-Wshadow;-Wnon-virtual-dtor;-Wno-missing-field-initializers>
  $<$<COMPILE_LANG_AND_ID:CXX,Clang>:-Wthread-safety>
  $<$<COMPILE_LANGUAGE:CUDA>:-Xcompiler=-Wall;--expt-relaxed-constexpr;-lineinfo>)
if(SAE_WERROR)
  target_compile_options(sae_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Werror>)
endif()
if(SAE_UNITY)
  # A source that a batch includes counts as a header there, and its classes as seen by others.
  target_compile_options(sae_flags INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-subobject-linkage>)
endif()
if(SAE_SANITIZE)
  target_compile_options(sae_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${SAE_SANITIZE};-fno-omit-frame-pointer>)
  target_link_options(sae_flags INTERFACE -fsanitize=${SAE_SANITIZE})
endif()

# sae_apart(x_test.cc ...): files of this directory that give a name another meaning than their neighbours do; SAE_UNITY
# compiles each alone, as it does a file with options of its own
function(sae_apart)
  set_source_files_properties(${ARGN} PROPERTIES SKIP_UNITY_BUILD_INCLUSION ON)
endfunction()

# sae_library(NAME sae_base SRCS ... HDRS ... DEPS ... PRIVATE_DEPS ...)
function(sae_library)
  cmake_parse_arguments(A "" "NAME" "SRCS;HDRS;DEPS;PRIVATE_DEPS" ${ARGN})
  add_library(${A_NAME} ${A_SRCS})
  string(REGEX REPLACE "^sae_" "" short ${A_NAME})
  add_library(sae::${short} ALIAS ${A_NAME})
  set_target_properties(${A_NAME} PROPERTIES EXPORT_NAME ${short})
  target_sources(${A_NAME} PUBLIC FILE_SET HEADERS BASE_DIRS ${PROJECT_SOURCE_DIR} FILES ${A_HDRS})
  target_link_libraries(${A_NAME} PUBLIC ${A_DEPS} PRIVATE ${A_PRIVATE_DEPS} $<BUILD_INTERFACE:sae_flags>)
endfunction()

# sae_failpoints(sae_agent ...): with SAE_FAILPOINTS, the failpoints in these targets are real (sae/base/failpoint.h)
function(sae_failpoints)
  if(SAE_FAILPOINTS)
    foreach(target IN LISTS ARGN)
      target_compile_definitions(${target} PRIVATE SAE_FAILPOINTS)
    endforeach()
  endif()
endfunction()

# sae_binary(NAME saeloom-trainer SRCS ... DEPS ...): a program in build/PRESET/bin
function(sae_binary)
  cmake_parse_arguments(A "" "NAME" "SRCS;DEPS" ${ARGN})
  add_executable(${A_NAME} ${A_SRCS})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} sae_flags)
  install(TARGETS ${A_NAME} DESTINATION ${CMAKE_INSTALL_BINDIR})
endfunction()

# sae_bench(NAME step_bench SRCS ... DEPS ...): a program in build/PRESET/bin, never run by CTest
function(sae_bench)
  cmake_parse_arguments(A "" "NAME" "SRCS;DEPS" ${ARGN})
  add_executable(${A_NAME} ${A_SRCS})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} sae_flags)
endfunction()

# sae_mpi_test(NAME x_mpi_test SRCS ... DEPS ... RANKS 2 4): registers one CTest entry a world size; the file has its own main()
function(sae_mpi_test)
  cmake_parse_arguments(A "" "NAME" "SRCS;DEPS;RANKS" ${ARGN})
  if(NOT SAE_BUILD_TESTS OR NOT SAE_WITH_MPI)
    return()
  endif()
  add_executable(${A_NAME} ${A_SRCS})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} MPI::MPI_CXX GTest::gmock GTest::gtest sae_flags)
  foreach(ranks IN LISTS A_RANKS)
    add_test(NAME ${A_NAME}_p${ranks} COMMAND ${MPIEXEC_EXECUTABLE} --bind-to none --oversubscribe ${MPIEXEC_NUMPROC_FLAG} ${ranks} $<TARGET_FILE:${A_NAME}>)
    set_tests_properties(${A_NAME}_p${ranks} PROPERTIES LABELS mpi PROCESSORS 2 TIMEOUT 120
      ENVIRONMENT "OMPI_ALLOW_RUN_AS_ROOT=1;OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1;OMPI_MCA_plm=isolated;OMP_NUM_THREADS=1")
  endforeach()
endfunction()

# sae_gpu_program(NAME): tools/gpu_check.sh builds it; for what carries the label gpu
function(sae_gpu_program name)
  if(NOT TARGET gpu_tests)
    add_custom_target(gpu_tests)
  endif()
  add_dependencies(gpu_tests ${name})
endfunction()

# What `tools/build.sh PRESET all_tests` builds: the tests and what they need, without the other programs.
function(sae_part_of_all_tests name)
  if(NOT TARGET all_tests)
    add_custom_target(all_tests)
  endif()
  add_dependencies(all_tests ${name})
endfunction()

# sae_label_tests(x_test e2e mpi): after gtest_discover_tests, which passes on only the first of several labels
function(sae_label_tests target)
  set(script ${CMAKE_CURRENT_BINARY_DIR}/${target}_labels.cmake)
  file(WRITE ${script} "if(${target}_TESTS)\n  set_tests_properties(\${${target}_TESTS} PROPERTIES LABELS \"${ARGN}\")\nendif()\n")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES ${script})
endfunction()

# sae_test(NAME status_test SRCS ... DEPS ... LABELS unit|gpu|integration|e2e [TIMEOUT seconds] [SERIAL])
# SERIAL: ThreadSanitizer leaves it out: it has one thread, or no more of ours than the library that it tests elsewhere.
function(sae_test)
  cmake_parse_arguments(A "SERIAL" "NAME;TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 60)
  endif()
  if(NOT SAE_BUILD_TESTS)
    return()
  endif()
  if(A_SERIAL AND SAE_SANITIZE STREQUAL thread)
    return()
  endif()
  add_executable(${A_NAME} ${A_SRCS})
  sae_part_of_all_tests(${A_NAME})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} GTest::gmock GTest::gtest_main sae_flags)
  if("gpu" IN_LIST A_LABELS)
    sae_gpu_program(${A_NAME})
  endif()
  gtest_discover_tests(${A_NAME} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS "${A_LABELS}" TIMEOUT ${A_TIMEOUT})
endfunction()

# sae_simt_test(NAME x_simt_test SRCS ... DEPS ... [TIMEOUT seconds] [UNDER_TSAN]): kernels under the executor of tests/simt
function(sae_simt_test)
  cmake_parse_arguments(A "UNDER_TSAN" "NAME;TIMEOUT" "SRCS;DEPS" ${ARGN})
  if(NOT SAE_WITH_SIMT)
    return()
  endif()
  if(SAE_SANITIZE STREQUAL thread AND NOT A_UNDER_TSAN)
    message(STATUS "${A_NAME} is left out: ThreadSanitizer makes each fiber a thread of its own, a hundred times slower, and a kernel runs on one thread")
    return()
  endif()
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 120)
  endif()
  sae_test(NAME ${A_NAME} SRCS ${A_SRCS} DEPS sae_kernels_simt ${A_DEPS} LABELS simt TIMEOUT ${A_TIMEOUT})
endfunction()

# sae_device_test(NAME x SRCS x_device_test.cc DEPS ... [UNDER_TSAN]): the same bodies as x_simt_test (executor) and, with CUDA, as
# x_gpu_test (GPU)
function(sae_device_test)
  cmake_parse_arguments(A "UNDER_TSAN" "NAME;TIMEOUT" "SRCS;DEPS" ${ARGN})
  set(under_tsan)
  if(A_UNDER_TSAN)
    set(under_tsan UNDER_TSAN)
  endif()
  sae_simt_test(NAME ${A_NAME}_simt_test SRCS ${A_SRCS} DEPS ${A_DEPS} TIMEOUT ${A_TIMEOUT} ${under_tsan})
  if(SAE_WITH_CUDA)
    sae_test(NAME ${A_NAME}_gpu_test SRCS ${A_SRCS} DEPS sae_device_test_cuda ${A_DEPS} LABELS gpu TIMEOUT 120)
  endif()
endfunction()

if(SAE_BUILD_TESTS)
  enable_testing()
  include(GoogleTest)
endif()
