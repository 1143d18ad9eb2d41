#!/usr/bin/env python3
"""Cuts texts 0-2 out of the full forward.safetensors, byte for byte; needs only Python's own library.

    python3 cut_forward.py FULL/forward.safetensors forward_0_2.safetensors
"""
import json
import struct
import sys


def main():
    with open(sys.argv[1], "rb") as f:
        full = f.read()
    (length,) = struct.unpack("<Q", full[:8])
    header = json.loads(full[8:8 + length])
    out, data = {}, bytearray()
    for name, entry in header.items():
        if not name.startswith(("text0/", "text1/", "text2/")):
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        out[name] = dict(entry, data_offsets=[len(data), len(data) + end - begin])
        data += full[begin:end]
    text = json.dumps(out, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    with open(sys.argv[2], "wb") as f:
        f.write(struct.pack("<Q", len(text)) + text + data)


main()
