#!/usr/bin/env python3
"""Loads an exported SAE in SAELens and compares its codes and reconstruction with ours.

Run it with a Python that has sae-lens 6.54.x (a scratch environment; tools/peers_env.sh makes one):
  saeloom export --checkpoint RUN/checkpoints --out my-sae --golden 256
  python tools/check_saelens.py my-sae
The folder holds cfg.json, sae_weights.safetensors and golden.safetensors (x, f, x_hat as Saeloom computed them).
Passes when max|got - want| / max|want| is at most 1e-5 for f and x_hat, and the same latents are active in every row
but those whose cut is a near-tie (1e-5 relative), which are counted and printed.
"""
import sys

import torch
from safetensors.torch import load_file
from sae_lens import SAE


def relative(got, want):
    return ((got - want).abs().max() / want.abs().max()).item()


def main():
    if len(sys.argv) != 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if len(sys.argv) == 2 else 2)
    folder = sys.argv[1]
    sae = SAE.load_from_disk(folder, device="cpu")
    golden = load_file(folder + "/golden.safetensors")
    with torch.no_grad():
        f = sae.encode(golden["x"])
        x_hat = sae.decode(f)
    differ = ((f > 0) != (golden["f"] > 0)).any(dim=1)
    same = ~differ
    error_f, error_x = relative(f[same], golden["f"][same]), relative(x_hat[same], golden["x_hat"][same])
    near = 0
    if differ.any():
        # A row may differ only where two pre-activations at the cut are equal to within 1e-5 of the largest code.
        gap = (f[differ] - golden["f"][differ]).abs()
        smallest = torch.where(golden["f"][differ] > 0, golden["f"][differ], torch.inf).min(dim=1).values
        changed = torch.where(gap > 1e-3 * golden["f"][differ].max(), gap, torch.zeros_like(gap)).max(dim=1).values
        near = int(((changed - smallest).abs() <= 1e-5 * golden["f"].max() + 1e-5 * smallest).sum())
    ok = error_f <= 1e-5 and error_x <= 1e-5 and near == int(differ.sum())
    print(f"{folder}: {type(sae).__name__}, {sae.cfg.d_sae} latents, width {sae.cfg.d_in}, hook {sae.cfg.metadata.hook_name}")
    print(f"rows {len(f)}, active latents equal in {int(same.sum())}, near-ties {near}")
    print(f"relative error: codes {error_f:.2e}, reconstruction {error_x:.2e} (bound 1e-5)")
    print("PASS" if ok else "FAIL")
    sys.exit(0 if ok else 1)


if __name__ == "__main__":
    main()
