#!/usr/bin/env python3
"""Checks activation stores against an independent reading of docs/formats/store.md.

Makes random rows, has saeloom-offline turn them into stores of every dtype, opens the shards with Python's
safetensors, and compares: values, written order, held-out choice, hashes, alignment, statistics, columns.

    python3 -m venv VENV && VENV/bin/pip install safetensors numpy xxhash
    VENV/bin/python tools/check_store.py --program build/release/bin/saeloom-offline
"""
import argparse
import json
import os
import subprocess
import sys
import tempfile

import numpy as np
import xxhash
from safetensors import safe_open
from safetensors.numpy import save_file

MASK = (1 << 64) - 1


def mix64(z):
    z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
    return z ^ (z >> 31)


def key_of(seed, row):
    """HashCounter(seed, row): the sort key of the written order."""
    h = mix64((seed + 0x9E3779B97F4A7C15) & MASK)
    h = mix64(h ^ ((row + 0x9E3779B97F4A7C15) & MASK))
    return mix64(h ^ 0xD1B54A32D192ED03)


def held_out(seed, unit, fraction):
    digest = xxhash.xxh3_64_intdigest(int(unit).to_bytes(8, "little", signed=True), seed=seed)
    return digest < fraction * 2.0**64


def to_bf16_bits(x):
    bits = x.astype(np.float32).view(np.uint32).astype(np.uint64)
    return ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype(np.uint16)


def stored(x, dtype):
    """The rows as the store keeps them, in float64."""
    if dtype == "bf16":
        return (to_bf16_bits(x).astype(np.uint32) << 16).view(np.float32).astype(np.float64)
    return x.astype({"f16": np.float16, "f32": np.float32}[dtype]).astype(np.float64)


def raw_tensor(path, name):
    """A tensor by the format's definition alone: the fallback for dtypes that NumPy lacks."""
    with open(path, "rb") as f:
        length = int.from_bytes(f.read(8), "little")
        header = json.loads(f.read(length))
        begin, end = header[name]["data_offsets"]
        f.seek(8 + length + begin)
        return header[name], 8 + length + begin, f.read(end - begin)


def read_rows(path, dtype, name="activations"):
    header, offset, raw = raw_tensor(path, name)
    assert name != "activations" or offset % 4096 == 0, f"{path}: activations begin at {offset}"
    with safe_open(path, framework="numpy") as f:
        assert name in f.keys()
        if dtype != "bf16":
            return f.get_tensor(name).astype(np.float64)
        assert f.get_slice(name).get_shape() == header["shape"]
    bits = np.frombuffer(raw, dtype="<u2").reshape(header["shape"])
    return (bits.astype(np.uint32) << 16).view(np.float32).astype(np.float64)


def check_split(store, shards, expected, dtype, columns, targets):
    parts, target_parts = [], []
    for shard in shards:
        path = os.path.join(store, shard["file"])
        with open(path, "rb") as f:
            content = f.read()
        assert len(content) == shard["bytes"], path
        assert f"xxh3:{xxhash.xxh3_64_hexdigest(content)}" == shard["hash"], path
        rows = read_rows(path, dtype)
        assert len(rows) == shard["rows"], path
        parts.append(rows)
        if targets is not None:
            target_parts.append(read_rows(path, dtype, "targets"))
        first = sum(len(p) for p in parts[:-1])
        with safe_open(path, framework="numpy") as f:
            for name, values in columns.items():
                got = f.get_tensor(name)
                assert got.dtype == np.int32
                assert np.array_equal(got, values[first:first + len(got)]), f"{path}: {name}"
    rows = np.concatenate(parts) if parts else np.zeros((0, expected.shape[1]))
    assert np.array_equal(rows, expected), f"{store}: rows or their order differ"
    if targets is not None:
        assert np.array_equal(np.concatenate(target_parts), targets), f"{store}: targets differ"


def check_statistics(manifest, prefix, training):
    assert np.allclose(manifest[prefix + "mean"], training.mean(axis=0), rtol=1e-12, atol=1e-12)
    assert np.isclose(manifest[prefix + "mean_squared_norm"], (training**2).sum(axis=1).mean(), rtol=1e-12)


def check_store(store, x, seed, fraction, dtype, columns, y=None):
    with open(os.path.join(store, "manifest.json"), "rb") as f:
        manifest = json.loads(f.read())
    units = columns.get("documents", np.arange(len(x)))
    held = np.array([held_out(seed, u, fraction) for u in units])
    order = sorted(range(len(x)), key=lambda r: (key_of(seed, r), r))
    values = stored(x, dtype)
    targets = None if y is None else stored(y, dtype)
    for shards, chosen in ((manifest["shards"], [r for r in order if not held[r]]),
                           (manifest["heldout"]["shards"], [r for r in order if held[r]])):
        check_split(store, shards, values[chosen], dtype, {k: v[chosen] for k, v in columns.items()},
                    None if targets is None else targets[chosen])
    assert manifest["rows"] == int((~held).sum()) and manifest["heldout"]["rows"] == int(held.sum())
    check_statistics(manifest, "", values[~held])
    assert manifest.get("target_d", 0) == (0 if y is None else y.shape[1])
    if y is not None:
        check_statistics(manifest, "target_", targets[~held])
    return len(manifest["shards"])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", default="build/release/bin/saeloom-offline")
    program = os.path.abspath(parser.parse_args().program)
    rng = np.random.default_rng(0)
    rows, d, seed, fraction = 40000, 48, 7, 0.05
    x = rng.normal(3, 2, (rows, d)).astype(np.float32)
    y = rng.normal(-1, 3, (rows, 20)).astype(np.float32)
    documents = np.sort(rng.integers(0, 900, rows)).astype(np.int32)
    columns = {"token_ids": rng.integers(0, 49152, rows).astype(np.int32),
               "positions": rng.integers(1, 256, rows).astype(np.int32), "documents": documents}
    with tempfile.TemporaryDirectory() as folder:
        npy, tensors, pairs = (os.path.join(folder, name) for name in ("x.npy", "x.safetensors", "pairs.safetensors"))
        np.save(npy, x)
        save_file({"activations": x, **columns}, tensors)
        save_file({"activations": x, "y": y, **columns}, pairs)
        for source, extra, targets in ((npy, {}, None), (tensors, columns, None), (pairs, columns, y)):
            for dtype in ("bf16", "f16", "f32"):
                # 1 MiB of memory makes the shuffle go through files, 1 MiB shards make several.
                out = os.path.join(folder, f"{dtype}-{len(extra)}-{targets is not None}")
                more = [] if targets is None else ["--targets", "y"]
                subprocess.run([program, "store", "create", "--from", source, "--out", out, "--dtype", dtype, "--seed", str(seed),
                                "--heldout", str(fraction), "--memory", "1", "--shard", "1", *more], check=True, stdout=subprocess.DEVNULL)
                shards = check_store(out, x, seed, fraction, dtype, extra, targets)
                print(f"{os.path.basename(source)} as {dtype}: {rows} rows in {shards} shards agree")
    return 0


if __name__ == "__main__":
    sys.exit(main())
