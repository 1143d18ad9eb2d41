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
if(SAE_SANITIZE)
  target_compile_options(sae_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CXX>:-fsanitize=${SAE_SANITIZE};-fno-omit-frame-pointer>)
  target_link_options(sae_flags INTERFACE -fsanitize=${SAE_SANITIZE})
endif()

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

# sae_test(NAME status_test SRCS ... DEPS ... LABELS unit|gpu|integration|e2e [TIMEOUT seconds])
function(sae_test)
  cmake_parse_arguments(A "" "NAME;TIMEOUT" "SRCS;DEPS;LABELS" ${ARGN})
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 60)
  endif()
  if(NOT SAE_BUILD_TESTS)
    return()
  endif()
  add_executable(${A_NAME} ${A_SRCS})
  target_link_libraries(${A_NAME} PRIVATE ${A_DEPS} GTest::gmock GTest::gtest_main sae_flags)
  gtest_discover_tests(${A_NAME} DISCOVERY_MODE PRE_TEST PROPERTIES LABELS "${A_LABELS}" TIMEOUT ${A_TIMEOUT})
endfunction()

# sae_simt_test(NAME x_simt_test SRCS ... DEPS ... [TIMEOUT seconds]): kernels under the executor of tests/simt
function(sae_simt_test)
  cmake_parse_arguments(A "" "NAME;TIMEOUT" "SRCS;DEPS" ${ARGN})
  if(NOT SAE_WITH_SIMT)
    return()
  endif()
  if(NOT A_TIMEOUT)
    set(A_TIMEOUT 120)
  endif()
  sae_test(NAME ${A_NAME} SRCS ${A_SRCS} DEPS sae_kernels_simt ${A_DEPS} LABELS simt TIMEOUT ${A_TIMEOUT})
endfunction()

# sae_device_test(NAME x SRCS x_device_test.cc DEPS ...): the same bodies as x_simt_test (executor) and, with CUDA, as
# x_gpu_test (GPU)
function(sae_device_test)
  cmake_parse_arguments(A "" "NAME;TIMEOUT" "SRCS;DEPS" ${ARGN})
  sae_simt_test(NAME ${A_NAME}_simt_test SRCS ${A_SRCS} DEPS ${A_DEPS} TIMEOUT ${A_TIMEOUT})
  if(SAE_WITH_CUDA)
    sae_test(NAME ${A_NAME}_gpu_test SRCS ${A_SRCS} DEPS sae_device_test_cuda ${A_DEPS} LABELS gpu TIMEOUT 120)
  endif()
endfunction()

if(SAE_BUILD_TESTS)
  enable_testing()
  include(GoogleTest)
endif()
