#!/usr/bin/env python3
"""Checks docs/operations.md: what it says people see is what tests see.

Every backticked text in a column headed `what you see` is split at `…`; all its pieces (of 6 characters or more)
must stand in the string literals of one test file. The page must also name every failure class and exit code.

check_operations.py [ROOT [PAGE]]     Prints each breach; exit 1 if there is any.
"""
import os
import re
import sys

COLUMN = "what you see"
FOLDERS = ("server", "worker", "client/cli", "proto", "sae", "tests")
SHORTEST = 6
ESCAPES = {"n": "\n", "t": "\t", "r": "\r", "0": "\0", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
TOKEN = re.compile(r"""
    //[^\n]* | /\*.*?\*/                                          # comments
  | R"(?P<mark>[^\s()\\]{0,16})\((?P<raw>.*?)\)(?P=mark)"         # raw strings
  | "(?P<text>(?:[^"\\\n]|\\.)*)"
  | '(?:[^'\\\n]|\\.)'                                            # characters
  | (?P<space>\s+) | (?P<other>.)
""", re.S | re.X)


def decoded(text):
    text = re.sub(r"\\\n", "", text)
    return re.sub(r"\\(?:x([0-9a-fA-F]{1,2})|(.))",
                  lambda m: chr(int(m[1], 16)) if m[1] else ESCAPES.get(m[2], m[2]), text, flags=re.S)


def cpp_literals(source):
    """The string literals of C++ source, adjacent ones joined."""
    found, joins = [], False
    for m in TOKEN.finditer(source):
        literal = m["raw"] if m["raw"] is not None else None if m["text"] is None else decoded(m["text"])
        if literal is not None:
            found[-1:] = [found[-1] + literal] if joins else found[-1:] + [literal]
            joins = True
        elif m["other"] or m[0].startswith("'"):
            joins = False
    return found


def python_literals(source):
    pattern = r'"""(.*?)"""|"((?:[^"\\\n]|\\.)*)"|\'((?:[^\'\\\n]|\\.)*)\''
    return [decoded(a or b or c) for a, b, c in re.findall(pattern, source, re.S)]


def test_literals(root):
    """Of each test file, by its path below `root`, the string literals."""
    files = {}
    for top in FOLDERS:
        for folder, _, names in os.walk(os.path.join(root, top)):
            for name in names:
                cpp = name.endswith((".cc", ".cu")) and (top == "tests" or "_test." in name)
                if not cpp and not (top == "tests" and name.endswith(".py")):
                    continue
                path = os.path.join(folder, name)
                with open(path, encoding="utf-8") as source:
                    text = source.read()
                files[os.path.relpath(path, root)] = cpp_literals(text) if cpp else python_literals(text)
    return files


def cells(line):
    """The cells of a table's row; a bar within backticks does not divide."""
    parts = re.findall(r"(?:`[^`]*`|[^|`])+", line.strip().strip("|"))
    return [p.strip() for p in parts]


def quoted_texts(page):
    """(line number, text) of each backticked text in the columns headed COLUMN."""
    column = None
    for number, line in enumerate(page.split("\n"), 1):
        if not line.startswith("|"):
            column = None
            continue
        row = cells(line)
        if column is None:
            column = row.index(COLUMN) if COLUMN in row else -1
        elif column >= 0 and column < len(row):
            for text in re.findall(r"`([^`]+)`", row[column]):
                yield number, text


def pieces(text):
    return [p for p in (part.strip() for part in text.split("…")) if len(p) >= SHORTEST]


def failure_classes(root):
    with open(os.path.join(root, "proto/saeloom/v1/sweep.proto"), encoding="utf-8") as proto:
        enum = re.search(r"enum FailureClass \{(.*?)\}", proto.read(), re.S)[1]
    return [c for c in re.findall(r"(\w+)\s*=", enum) if c != "FAILURE_CLASS_UNSPECIFIED"]


def exit_codes(root):
    """0, each code that ExitCode can give, and the command line's own."""
    codes = {"0"}
    for path, pattern in (("sae/base/exit_code.cc", r"return (\d+);"), ("client/cli/exit_code.h", r"kExit\w+ = (\d+);")):
        with open(os.path.join(root, path), encoding="utf-8") as source:
            codes.update(re.findall(pattern, source.read()))
    return sorted(codes, key=int)


def breaches(root, page):
    tests = test_literals(root)
    texts = list(quoted_texts(page))
    if not texts:
        yield f"no table has a column headed {COLUMN}"
    for number, text in texts:
        wanted = pieces(text)
        if not wanted:
            yield f"line {number}: too little is literal in `{text}`"
        elif not any(all(any(w in literal for literal in literals) for w in wanted)
                     for literals in tests.values()):
            yield f"line {number}: no test file has all of `{text}`"
    first_cells = {c for line in page.split("\n") if line.startswith("|") for c in cells(line)[:1]}
    for name in failure_classes(root):
        if name not in first_cells:
            yield f"no row has the failure class {name}"
    for code in exit_codes(root):
        if code not in first_cells:
            yield f"no row has the exit code {code}"


def main():
    root = sys.argv[1] if len(sys.argv) > 1 else os.path.join(os.path.dirname(os.path.abspath(__file__)), "..")
    path = sys.argv[2] if len(sys.argv) > 2 else os.path.join(root, "docs/operations.md")
    with open(path, encoding="utf-8") as source:
        page = source.read()
    found = list(breaches(root, page))
    for line in found:
        print(line)
    print(f"check_operations: {len(list(quoted_texts(page)))} texts, {len(found)} breaches")
    sys.exit(1 if found else 0)


if __name__ == "__main__":
    main()
