"""Rows to train on (Gaussian from a seed, or of an activation store), and biases that give a wanted L0."""
import json
import os

import torch
from safetensors import safe_open


def gaussian(count, width, seed=1):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def read_store(folder, heldout=False, limit=None):
    """(float32 rows of a store in written order (shuffled) over their root mean square norm, that norm)."""
    with open(os.path.join(folder, "manifest.json"), encoding="utf-8") as f:
        manifest = json.load(f)
    shards = manifest["heldout"]["shards"] if heldout else manifest["shards"]
    norm = manifest["mean_squared_norm"] ** 0.5
    parts, left = [], limit if limit is not None else float("inf")
    for shard in shards:
        if left <= 0:
            break
        with safe_open(os.path.join(folder, shard["file"]), framework="pt") as f:
            rows = f.get_slice("activations")
            part = rows[: int(min(left, rows.get_shape()[0]))]
        parts.append(part.float() / norm)
        left -= len(part)
    return torch.cat(parts), norm


@torch.no_grad()
def quantiles(weight, x, share, block=1024):
    """Per row w of `weight` [n, d], the value that w . x exceeds on that share of the rows of x [B, d]."""
    rank = min(len(x) - 1, max(1, round(share * len(x))))  # so many lie above it
    out = torch.empty(len(weight))
    for i in range(0, len(weight), block):
        z = x @ weight[i:i + block].T
        top = torch.topk(z, rank + 1, dim=0).values if rank < len(x) // 4 else torch.sort(z, dim=0, descending=True).values
        out[i:i + block] = (top[rank - 1] + top[rank]) / 2
    return out


@torch.no_grad()
def held_out(peer, x, block=2048, training=False):
    """(FVU about the rows' own mean, mean L0) of a peer's inference path, or of the codes that training sees."""
    error, active = 0.0, 0.0
    for i in range(0, len(x), block):
        codes, output = peer.reconstruct(x[i:i + block], training)
        error += (output - x[i:i + block]).double().square().sum().item()
        active += (codes != 0).sum().item()
    spread = (x - x.mean(0)).double().square().sum().item()
    return error / spread, active / len(x)
