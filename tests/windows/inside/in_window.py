"""Runs in the chroot's own Python: a virtual screen, then the given command on it; its exit status."""

from __future__ import annotations

import os
import subprocess
import sys


def main() -> int:
    """`in_window.py WIDTHxHEIGHT command…`. The X server picks a free display itself: sessions may run side by side."""
    reading, writing = os.pipe()
    screen = ["-screen", "0", f"{sys.argv[1]}x24", "-nolisten", "tcp", "-noreset"]
    server = subprocess.Popen(["Xvfb", "-displayfd", str(writing), *screen], pass_fds=[writing])
    os.close(writing)
    display = os.read(reading, 16).decode().strip()
    if not display:
        print("Xvfb did not start", file=sys.stderr)
        return 125
    try:
        return subprocess.call(sys.argv[2:], env={**os.environ, "DISPLAY": f":{display}"})
    finally:
        server.terminate()
        server.wait()


if __name__ == "__main__":
    sys.exit(main())
