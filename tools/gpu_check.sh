#!/usr/bin/env bash
# Everything that needs a GPU, in one command: builds for sm_90 what CTest labels `gpu` and the GPU benches, runs
# them, runs compute-sanitizer over the tests where it is installed, and ends with a table. Exit 0 only when all
# of it passed. Needs on the machine: g++, cmake, nvcc 13, NCCL (toolkit or PyTorch wheels); no network, no gRPC,
# no oneDNN, no Debian packages.
#
#   tools/gpu_check.sh --prepare     before, on a Debian 12 machine with network: unpacks the packages that sae/
#                                    needs into third_party/gpu_packages (under 40 MB), which travels along
#   tools/gpu_check.sh               on the machine with the GPU
#   tools/gpu_check.sh --build-only  configures and builds; needs no GPU
#   tools/gpu_check.sh --seconds N   all of it within N seconds (530); compute-sanitizer takes what is left
set -uo pipefail
cd "$(dirname "$0")/.."

root=$PWD
packages=third_party/gpu_packages
build=build/gpu
build_only=0
deadline=$((SECONDS + 530))  # of the whole run, in seconds: well inside ten minutes

say() { printf 'gpu_check: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }

# --- packages --------------------------------------------------------------------------------------------
debian_packages=(
  libabsl-dev libabsl20220623 libhwy-dev libhwy1 libspdlog-dev libspdlog1.10 libfmt-dev libfmt9
  nlohmann-json3-dev libxxhash-dev libxxhash0 libzstd-dev libzstd1 libgtest-dev libgmock-dev librapidcheck-dev
  libyaml-cpp-dev libyaml-cpp0.7 libcli11-dev pkgconf pkgconf-bin libpkgconf3 ninja-build
  libopenmpi-dev libopenmpi3 openmpi-bin openmpi-common libhwloc15 libevent-core-2.1-7
  libevent-pthreads-2.1-7 libpmix2 libudev1 zlib1g)

prepare() {

  scratch=$(mktemp -d) || exit 1  # global: the trap reads it
  trap 'rm -rf "$scratch"' EXIT
  (cd "$scratch" && apt-get download -qq "${debian_packages[@]}") ||
    die "cannot download the packages: is this Debian 12, and did apt-get update run?"
  rm -rf "$packages"
  mkdir -p "$packages"
  for package in "$scratch"/*.deb; do dpkg -x "$package" "$packages" || die "cannot unpack $package"; done
  cd "$packages" || exit 1
  local lib=usr/lib/x86_64-linux-gnu mpi
  # Some packages keep libraries in /lib, which Debian 12 has merged into /usr/lib.
  if [ -d lib ]; then cp -a lib/. usr/lib/ && rm -rf lib; fi
  # What no build of ours reads.
  rm -rf usr/share/doc usr/share/man usr/share/locale usr/share/lintian usr/share/bug usr/share/bash-completion \
    usr/lib/udev usr/src etc usr/lib/systemd "$lib"/fortran "$lib"/perl5 usr/share/perl5
  find usr \( -name '*fortran*' -o -name '*mpifh*' -o -name '*usempi*' -o -name '*_mpi*.mod' -o -name 'libvt*' \
    -o -name '*.a' -path '*openmpi*' -o -name '*java*' \) -exec rm -rf {} + 2>/dev/null
  # Static twins of shared libraries, but for those that a CMake package names.
  for archive in "$lib"/*.a; do
    [ -e "${archive%.a}.so" ] && ! grep -rqF "$(basename "$archive")" "$lib/cmake" && rm -f "$archive"
  done
  # update-alternatives makes these links on an installed system.
  for name in mpicc mpicxx mpic++ mpirun mpiexec; do
    [ -e usr/bin/$name.openmpi ] && ln -sf $name.openmpi usr/bin/$name
  done
  ln -sf pkgconf usr/bin/pkg-config
  for mpi in "$lib"/openmpi/lib/libmpi*.so; do
    [ -e "$mpi" ] && ln -sf "openmpi/lib/$(basename "$mpi")" "$lib/$(basename "$mpi")"
  done
  cd "$root" || exit 1
  local kilobytes
  kilobytes=$(du -sk "$packages" | cut -f1)
  [ "$kilobytes" -lt 40960 ] || die "$packages has $kilobytes KB, more than 40 MB"
  say "$packages is ready: ${#debian_packages[@]} packages, $((kilobytes / 1024)) MB"
}

while [ $# -gt 0 ]; do
  case "$1" in
    --prepare) prepare; exit 0 ;;
    --build-only) build_only=1 ;;
    --seconds)
      case "${2:-}" in ''|*[!0-9]*) say "--seconds needs a number (see --help)"; exit 2 ;; esac
      deadline=$((SECONDS + $2))
      shift ;;
    -h|--help) sed -n '2,11p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) say "unknown option $1 (see --help)"; exit 2 ;;
  esac
  shift
done

# --- the table -------------------------------------------------------------------------------------------
rows=()
failed=0
row() {  # NAME RESULT SECONDS DETAIL
  rows+=("$(printf '%-30s %-8s %6s  %s' "$1" "$2" "$3" "$4")")
  if [ "$2" = FAILED ]; then failed=1; fi
}
finish() {
  echo
  printf '%-30s %-8s %6s  %s\n' part result s detail
  printf '%s\n' "${rows[@]}"
  exit $failed
}

when_late=FAILED  # what a part is that the time did not suffice for

# Runs a command with a limit in seconds, cut to what is left of the whole; its output goes to a file as well.
timed() {  # NAME LIMIT COMMAND...
  local name=$1 limit=$2 start=$SECONDS left=$((deadline - SECONDS)) code detail
  shift 2
  if [ $left -lt 10 ]; then
    row "$name" "$when_late" 0 "not run: the time for the whole was used up"
    return 1
  fi
  if [ "$limit" -gt $left ]; then limit=$left; fi
  say "$name (at most $limit s)"
  timeout --kill-after=10 "$limit" "$@" 2>&1 | tee "$build/$name.log"
  code=${PIPESTATUS[0]}
  if [ "$code" = 0 ]; then
    detail=$(grep -m 1 'tests passed' "$build/$name.log" || tail -n 1 "$build/$name.log")
    row "$name" passed $((SECONDS - start)) "${detail:0:100}"
  elif [ "$code" = 124 ] || [ "$code" = 137 ]; then
    row "$name" FAILED $((SECONDS - start)) "not done within $limit s"
  else
    row "$name" FAILED $((SECONDS - start)) "exit status $code, see $build/$name.log"
  fi
  return "$code"
}

# --- environment -----------------------------------------------------------------------------------------
[ -e "$packages/usr/include/absl" ] || die "no $packages: run tools/gpu_check.sh --prepare before, where there is a network"
prefix=$root/$packages/usr
lib=$prefix/lib/x86_64-linux-gnu
export PATH="$prefix/bin:$PATH:/usr/local/cuda/bin"
export LD_LIBRARY_PATH="$lib:$lib/openmpi/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"
export PKG_CONFIG_LIBDIR="$lib/pkgconfig:$prefix/share/pkgconfig" PKG_CONFIG_SYSROOT_DIR="$root/$packages"
export OPAL_PREFIX="$prefix" OPAL_LIBDIR="$lib" OPAL_PKGLIBDIR="$lib/openmpi/lib/openmpi3" OPAL_DATADIR="$prefix/share"
export PMIX_INSTALL_PREFIX="$lib/pmix2" PMIX_MCA_gds=hash
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 OMPI_MCA_plm=isolated
mkdir -p "$build/links"

nvcc=$(command -v nvcc) || die "no nvcc: install CUDA 13 or put it on the PATH"
# Wheels carry libraries without the names a linker looks for.
wheels=$(python3 -c 'import importlib.util as u
s = u.find_spec("nvidia")
print("\n".join(s.submodule_search_locations) if s else "")' 2>/dev/null || true)
include_path=""
for folder in $wheels; do
  for library in cublasLt cudart nccl; do
    file=$(ls "$folder"/*/lib/lib$library.so.* 2>/dev/null | head -n 1)
    [ -n "$file" ] && ln -sf "$file" "$build/links/lib$library.so"
  done
  for header in nccl.h cublasLt.h; do
    file=$(ls "$folder"/*/include/$header 2>/dev/null | head -n 1)
    [ -n "$file" ] && include_path="$include_path;$(dirname "$file")"
  done
done
sanitizer=$(command -v compute-sanitizer || true)

gpu=""
if [ $build_only = 0 ]; then
  gpu=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -n 1)
  if [ -n "$gpu" ]; then say "GPU: $gpu"; else say "no GPU on this machine (nvidia-smi names none)"; fi
fi

# --- build -----------------------------------------------------------------------------------------------
configure=(cmake -S . -B "$build" -G Ninja -DCMAKE_BUILD_TYPE=RelWithDebInfo -DCMAKE_PREFIX_PATH="$prefix"
  -DCMAKE_LIBRARY_PATH="$root/$build/links" -DCMAKE_INCLUDE_PATH="$include_path"
  -DCMAKE_CUDA_COMPILER="$nvcc" -DSAE_WITH_CUDA=ON -DSAE_WITH_NCCL=ON -DSAE_WITH_MPI=ON -DSAE_WITH_DNNL=OFF
  -DSAE_WITH_TORCH=OFF -DSAE_WITH_SIMT=OFF -DSAE_BUILD_SERVICE=OFF -DSAE_BUILD_TESTS=ON -DSAE_BUILD_BENCH=ON)
[ "$(uname -m)" = x86_64 ] || die "only x86_64 is supported, this is $(uname -m)"
timed configure 60 "${configure[@]}" || finish
# --build-only may take longer: a machine without a GPU has fewer cores.
[ $build_only = 0 ] || deadline=$((SECONDS + 3600))
timed build $((build_only ? 3600 : 280)) cmake --build "$build" --target gpu_tests gpu_benches -j "$(nproc)" || finish
[ $build_only = 0 ] || finish

# --- run -------------------------------------------------------------------------------------------------
timed tests 180 ctest --test-dir "$build" -L gpu --no-tests=error --output-on-failure -j 4
if [ -z "$gpu" ]; then
  row gpu FAILED 0 "no GPU was found: every test above was skipped, nothing was measured"
  finish
fi
for bench in "$build"/bin/*_gpu_bench; do
  [ -x "$bench" ] && timed "$(basename "$bench")" 90 "$bench"
done
if [ -n "$sanitizer" ]; then
  only_ours=()  # not the libraries' kernels
  for option in --kernel-name --kernel-regex; do  # the second is what older ones call it
    "$sanitizer" --help 2>/dev/null | grep -q -- $option && only_ours=($option kns=Kernel) && break
  done
  when_late=skipped
  for tool in memcheck racecheck synccheck; do
    for test in "$build"/bin/{kernels,runtime,device_*}_gpu_test; do
      name=$(basename "$test")
      arguments=(--tool $tool --error-exitcode 9 "${only_ours[@]}")
      filter='*'
      # A test of exhausted memory provokes errors of the API, which are ours to check.
      if [ $tool = memcheck ]; then arguments+=(--report-api-errors no); fi
      # racecheck ends with an internal error of its own in cuBLASLt's products for sm_90.
      if [ $tool = racecheck ] && [ "$name" = kernels_gpu_test ]; then filter='-DeviceLibrary.Gemm*'; fi
      if [ $tool = racecheck ] && [ "$name" = device_engine_gpu_test ]; then
        row "${tool}_$name" skipped 0 "racecheck cannot run cuBLASLt's products; its kernels: the other rows"
        continue
      fi
      timed "${tool}_$name" 60 "$sanitizer" "${arguments[@]}" "$test" --gtest_brief=1 "--gtest_filter=$filter"
    done
  done
else
  row compute-sanitizer absent 0 "not installed on this machine"
fi
row gpu passed 0 "$gpu"
finish
