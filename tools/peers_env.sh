#!/usr/bin/env bash
# Makes a scratch Python environment with other SAE libraries and transformers, for comparisons; never a part of the
# product or its tests. About 3 GB. Needs Python 3.11 or 3.12 and, for torch's CUDA libraries, a CUDA 13.0 toolkit
# (or LibTorch set up with tools/setup.sh --cuda on a machine without one).
#
#   tools/peers_env.sh FOLDER        then: FOLDER/bin/peers-python SCRIPT
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?usage: tools/peers_env.sh FOLDER}
python3 -m venv "$folder"
"$folder/bin/pip" install --quiet --no-deps torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85 \
  nvidia-cufile==1.15.1.6 nvidia-cusparselt-cu13==0.8.0 nvidia-nvshmem-cu13==3.4.5
"$folder/bin/pip" install --quiet --no-deps -r tools/peers-requirements.txt
cat > "$folder/bin/peers-python" <<END
#!/usr/bin/env bash
export LD_LIBRARY_PATH=/usr/local/cuda/lib64:/usr/local/cuda/lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
exec "$(cd "$folder" && pwd)/bin/python" "\$@"
END
chmod +x "$folder/bin/peers-python"
"$folder/bin/peers-python" -c 'import sae_lens, transformers; print("sae-lens", sae_lens.__version__, "transformers", transformers.__version__)'
