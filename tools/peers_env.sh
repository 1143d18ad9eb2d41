#!/usr/bin/env bash
# Makes a scratch Python environment with other SAE libraries (SAELens, dictionary_learning, sparsify, overcomplete) and
# transformers, for comparisons on the CPU; never a part of the product or its tests. Versions are pinned. Needs Python
# 3.11 or 3.12 with venv, and about 3 GB (6 GB without a CUDA 13 toolkit: the torch wheel of the package index loads
# CUDA's libraries even to compute on the CPU, so without a toolkit pip fetches them).
#
#   tools/peers_env.sh FOLDER        then: FOLDER/bin/peers-python SCRIPT
set -euo pipefail
cd "$(dirname "$0")/.."
folder=${1:?usage: tools/peers_env.sh FOLDER}
torch=torch==2.11.0
python3 -m venv "$folder"
pip=("$folder/bin/pip" install --quiet --disable-pip-version-check)
toolkit=/usr/local/cuda
if compgen -G "$toolkit/lib64/libcublas.so.13*" > /dev/null && compgen -G "$toolkit/lib*/libcudnn.so.9*" > /dev/null; then
  "${pip[@]}" --no-deps "$torch" nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85 nvidia-cufile==1.15.1.6 \
    nvidia-cusparselt-cu13==0.8.0 nvidia-nvshmem-cu13==3.4.5
else
  "${pip[@]}" "$torch"
fi
"${pip[@]}" --no-deps -r tools/peers-requirements.txt
cat > "$folder/bin/peers-python" <<END
#!/usr/bin/env bash
export LD_LIBRARY_PATH=$toolkit/lib64:$toolkit/lib\${LD_LIBRARY_PATH:+:\$LD_LIBRARY_PATH}
exec "$(cd "$folder" && pwd)/bin/python" "\$@"
END
chmod +x "$folder/bin/peers-python"
SPARSIFY_DISABLE_TRITON=1 "$folder/bin/peers-python" - <<'END'
import importlib
from importlib.metadata import version
for package, module in (("torch", "torch"), ("sae-lens", "sae_lens"), ("dictionary-learning", "dictionary_learning"),
                        ("eai-sparsify", "sparsify"), ("overcomplete", "overcomplete"), ("transformers", "transformers")):
    importlib.import_module(module)
    print(package, version(package))
END
