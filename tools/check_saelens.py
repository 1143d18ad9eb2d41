#!/usr/bin/env python3
"""Loads exported SAEs and transcoders in SAELens and compares codes and outputs with Saeloom's.

Run it with a Python that has sae-lens 6.54.x (a scratch environment; tools/peers_env.sh makes one):
  saeloom export --checkpoint RUN/checkpoints --out my-sae --golden 256
  python tools/check_saelens.py my-sae [MORE ...]
A folder holds cfg.json, sae_weights.safetensors and golden.safetensors (x, f, x_hat as Saeloom computes them).
It passes when max|got - want| / max|want| is at most 1e-5 for f and x_hat, and the same latents are active in every row,
but for near-ties: latents that SAELens itself switches when x changes by 1e-5 of its size. Those rows are counted.
"""
import sys

import torch
from safetensors.torch import load_file
from sae_lens import SAE

BOUND = 1e-5


def relative(got, want):
    if len(want) == 0:  # no row to compare is no agreement
        return float("inf")
    return ((got - want).abs().max() / want.abs().max()).item()


def unstable(sae, x, active):
    """Latents that a relative change of x by BOUND switches."""
    g = torch.Generator().manual_seed(0)
    out = torch.zeros_like(active)
    for _ in range(32):
        out |= (sae.encode(x * (1 + BOUND * torch.randn(x.shape, generator=g))) > 0) != active
    return out


@torch.no_grad()
def check(folder):
    sae = SAE.load_from_disk(folder, device="cpu").eval()
    golden = load_file(folder + "/golden.safetensors")
    x, want = golden["x"], golden["f"]
    f = sae.encode(x)
    x_hat = sae(x)  # a skip is part of forward alone
    differ = (f > 0) != (want > 0)
    same = ~differ.any(dim=1)
    wrong = differ & ~unstable(sae, x, f > 0) if differ.any() else differ
    error_f, error_x = relative(f[same], want[same]), relative(x_hat[same], golden["x_hat"][same])
    norms = sae.W_dec.norm(dim=1)
    ok = error_f <= BOUND and error_x <= BOUND and not wrong.any()
    print(f"{folder}: {type(sae).__name__}, {sae.cfg.d_sae} latents, width {sae.cfg.d_in} to {x_hat.shape[1]}, "
          f"normalize {sae.cfg.normalize_activations}, hook {sae.cfg.metadata.hook_name}")
    print(f"  rows {len(x)}, L0 {(want > 0).float().sum(dim=1).mean():.2f}, rows with near-ties {int((~same).sum())}, "
          f"with wrong latents {int(wrong.any(dim=1).sum())}, decoder norms {norms.min():.6f} to {norms.max():.6f}")
    print(f"  relative error: codes {error_f:.2e}, reconstruction {error_x:.2e} (bound {BOUND:.0e}): {'PASS' if ok else 'FAIL'}")
    return ok


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ("-h", "--help"):
        print(__doc__)
        sys.exit(0 if len(sys.argv) > 1 else 2)
    results = [check(folder) for folder in sys.argv[1:]]
    print(f"{sum(results)} of {len(results)} PASS")
    sys.exit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
