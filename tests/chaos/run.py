#!/usr/bin/env python3
"""Runs histories with real processes: run.py BINARIES NAME...; run.py --list prints the names.

Exit codes: 0 all is well, 1 not, 77 skipped (the reason is printed).
"""
import os
import signal
import sys
import time
import traceback

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import histories  # noqa: E402
import rig as rigs  # noqa: E402


def run(binaries, name):
    function, options = histories.HISTORIES[name]
    rig = rigs.Rig(binaries, **options)
    begin = time.monotonic()
    try:
        function(rig)
        verdict = rig.judge()
        print(f"{name}: {verdict} ({time.monotonic() - begin:.1f} s)")
        return 0
    except histories.Skip as skip:
        print(f"{name}: skipped: {skip}")
        return 77
    except Exception:  # noqa: BLE001: whatever it is, the logs must be shown
        print(f"{name}: FAILED")
        traceback.print_exc(file=sys.stdout)
        print(rig.logs())
        return 1
    finally:
        rig.close()


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the rig ends its processes
    if sys.argv[1:] == ["--list"]:
        print("\n".join(histories.HISTORIES))
        return 0
    if len(sys.argv) < 2 or any(n not in histories.HISTORIES for n in sys.argv[2:]):
        print(__doc__)
        return 2
    codes = [run(sys.argv[1], name) for name in sys.argv[2:] or histories.HISTORIES]
    return 1 if 1 in codes else 77 if codes and all(c == 77 for c in codes) else 0


if __name__ == "__main__":
    sys.exit(main())
