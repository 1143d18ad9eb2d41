#!/usr/bin/env python3
"""docs/properties.md names tests that exist: compares its tables with the tests of the tree.

A test tells which properties it shows by a comment on the lines above it: `// Property 12.` or
`// Properties 12 and 34.`. The first table (numbered rows) is written from those comments; the second table
names tests by hand. Prints each difference; exit 1 if there is any.

  check_properties.py [ROOT]             compare
  check_properties.py [ROOT] --write     rewrite the numbered rows' tests from the comments
  check_properties.py [ROOT] --complete  compare, and refuse rows that still have no test
"""
import os
import re
import sys

DOCUMENT = "docs/properties.md"
SKIPPED = ("build", "third_party", ".git", "runs", ".saeloom")
TEST = re.compile(r"^(?:TYPED_)?TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\)", re.M)
MARK = re.compile(r"\bPropert(?:y|ies) (\d+(?:(?:, | and |, and )\d+)*)")
ROW = re.compile(r"^\| (\d+) \| (.*?) \| (.*) \|$")
NAMED = re.compile(r"`(\w+\.\w+)` ([\w./-]+)")
PENDING = "not yet: "


def tests_of(root):
    """(name, file) -> numbers of the properties that the comment above names."""
    found = {}
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(f for f in folders if f not in SKIPPED)
        for name in sorted(f for f in files if f.endswith("_test.cc")):
            path = os.path.join(folder, name)
            with open(path, encoding="utf-8") as source:
                text = source.read()
            for match in TEST.finditer(text):
                comment = []
                for line in reversed(text[: match.start()].splitlines()):
                    if not line.startswith("//"):
                        break
                    comment.append(line)
                numbers = {
                    int(n) for line in comment for m in MARK.finditer(line) for n in re.findall(r"\d+", m.group(1))
                }
                found[f"{match.group(1)}.{match.group(2)}", os.path.relpath(path, root)] = numbers
    return found


def cell_of(number, tests):
    shown = sorted((path, name) for (name, path), numbers in tests.items() if number in numbers)
    return "<br>".join(f"`{name}` {path}" for path, name in shown)


def rewritten(line, tests):
    row = ROW.match(line)
    cell = cell_of(int(row.group(1)), tests) if row else ""
    return f"| {row.group(1)} | {row.group(2)} | {cell} |" if cell else line


def differences(lines, tests, complete):
    rows = set()
    for line in lines:
        if line.startswith("|"):
            for name, path in NAMED.findall(line):
                if (name, path) not in tests:
                    yield f"no such test: {name} in {path}"
        row = ROW.match(line)
        if not row:
            continue
        number, cell = int(row.group(1)), cell_of(int(row.group(1)), tests)
        rows.add(number)
        if cell and cell != row.group(3):
            yield f"row {number} does not name the tests marked with it: run tools/check_properties.py --write"
        elif not cell and not row.group(3).startswith(PENDING):
            yield f"row {number}: no test above which stands `// Property {number}.`"
        elif not cell and complete:
            yield f"row {number} has no test"
    for (name, path), numbers in sorted(tests.items()):
        for number in sorted(numbers - rows):
            yield f"{name} in {path} shows property {number}, which has no row"


def main():
    arguments = [a for a in sys.argv[1:] if not a.startswith("--")]
    root = arguments[0] if arguments else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    tests = tests_of(root)
    document = os.path.join(root, DOCUMENT)
    with open(document, encoding="utf-8") as source:
        lines = source.read().splitlines()
    if "--write" in sys.argv:
        lines = [rewritten(line, tests) for line in lines]
        with open(document, "w", encoding="utf-8") as out:
            out.write("\n".join(lines) + "\n")
    found = list(differences(lines, tests, "--complete" in sys.argv))
    for line in found:
        print(line)
    print(f"check_properties: {len(found)} differences")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
