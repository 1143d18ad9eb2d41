#!/usr/bin/env python3
"""Checks docs/failures.md: it has rows 1 to 25, each names a test, and each test that it names exists.

Prints each breach; exit 1 if there is any.
"""
import fnmatch
import os
import re
import subprocess
import sys

ROWS = range(1, 26)


def unit_tests(root):
    names = set()
    for folder, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in ("build", "third_party", ".git")]
        for name in files:
            if name.endswith((".cc", ".cu")) and "test" in name:
                with open(os.path.join(folder, name), encoding="utf-8") as source:
                    names.update(f"{suite}.{case}" for suite, case in
                                 re.findall(r"TEST(?:_[FP])?\(\s*(\w+),\s*(\w+)\s*\)", source.read()))
    return names


def breaches(root):
    run = [sys.executable, os.path.join(root, "tests/chaos/run.py"), "--list"]
    chaos = ["chaos." + n for n in subprocess.run(run, capture_output=True, text=True, check=True).stdout.split()]
    known = unit_tests(root) | set(chaos) | {"simulate"}
    with open(os.path.join(root, "docs/failures.md"), encoding="utf-8") as page:
        rows = {int(m[1]): m[0] for m in re.findall(r"(^\| (\d+) \|.*$)", page.read(), re.M)}
    named = set()
    for number in ROWS:
        if number not in rows:
            yield f"row {number} is missing"
            continue
        tests = re.findall(r"`([^`]+)`", rows[number].split("|")[4])
        if not tests:
            yield f"row {number} names no test"
        for test in tests:
            found = fnmatch.filter(known, test)
            named.update(found)
            if not found:
                yield f"row {number}: there is no test {test}"
    for name in chaos:
        if name not in named:
            yield f"{name} stands in no row"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    found = list(breaches(root))
    for line in found:
        print(line)
    print(f"check_failures: {len(found)} breaches")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
