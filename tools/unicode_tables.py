#!/usr/bin/env python3
"""Writes sae/lm/unicode_tables.inc: the code points of Unicode categories L and N, as ranges.

    python3 tools/unicode_tables.py > sae/lm/unicode_tables.inc

The tokenizer's goldens were made with Unicode 14 (Python 3.11); another version classes newly assigned
characters differently, so the script refuses to run with one.
"""
import sys
import unicodedata

VERSION = "14.0.0"


def ranges(category):
    """Inclusive ranges of the code points whose general category starts with `category`."""
    found = []
    for point in range(0x110000):
        if unicodedata.category(chr(point))[0] != category:
            continue
        if found and found[-1][1] == point - 1:
            found[-1][1] = point
        else:
            found.append([point, point])
    return found


def main():
    if unicodedata.unidata_version != VERSION:
        sys.exit(f"this Python has Unicode {unicodedata.unidata_version}; use one with {VERSION} (Python 3.11)")
    print(f"// Unicode {VERSION}, made by tools/unicode_tables.py: do not edit.")
    for category, name in (("L", "kLetterRanges"), ("N", "kNumberRanges")):
        items = [f"{{0x{a:X}, 0x{b:X}}}" for a, b in ranges(category)]
        print(f"\nconstexpr CodePointRange {name}[] = {{")
        line = "   "
        for item in items:
            if len(line) + len(item) + 2 > 100:
                print(line)
                line = "   "
            line += f" {item},"
        print(line)
        print("};")


main()
