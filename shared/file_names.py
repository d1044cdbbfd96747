"""Names that a folder or file can have on every system: Windows', macOS' and Linux' rules together, as pure functions.

An avatar made on Linux is copied to Windows some day. There CON.avatar is a device, "anna." is "anna", and Anna and
anna are one folder.
"""

from __future__ import annotations

import re
from collections.abc import Collection

LONGEST = 60
LONGEST_BYTES = 200
"""Of a name in UTF-8, which leaves room for suffixes in the 255 that file systems take."""
_FORBIDDEN = re.compile(r"[/\\:*?<>|\"\x00-\x1f\x7f\ud800-\udfff]")
_DEVICE = re.compile(r"(CON|PRN|AUX|NUL|CONIN\$|CONOUT\$|(COM|LPT)[0-9¹²³])", re.IGNORECASE)


def is_device(name: str) -> bool:
    """Whether Windows takes a file name for one of its devices, whatever its suffix: CON, nul.txt, "COM1 .png"."""
    return _DEVICE.fullmatch(name.partition(".")[0].rstrip(" ")) is not None


def problem_with(name: str, most: int = LONGEST) -> str:
    """Why a name cannot be a folder's or file's everywhere, in words that follow the name; "" where it can."""
    if not 1 <= len(name) <= most:
        return f"has {len(name)} letters, not 1 to {most}"
    if _FORBIDDEN.search(name):
        return 'holds one of / \\ : * ? < > | " or a character that cannot be seen'
    if len(name.encode("utf-8")) > LONGEST_BYTES:
        return f"takes more than {LONGEST_BYTES} bytes"
    if name.startswith((".", " ")) or name.endswith((".", " ")):
        return "begins or ends with a dot or a space"
    return "is a device of Windows" if is_device(name) else ""


def safe_stem(name: str, fallback: str) -> str:
    """ASCII letters, digits, _ and - of a name, at most 60, that is no device; `fallback` where none are left."""
    stem = re.sub(r"[^A-Za-z0-9_-]+", "_", name).strip("_-")[:LONGEST].rstrip("_-") or fallback
    return f"{fallback}_{stem}"[:LONGEST] if is_device(stem) else stem


def taken(name: str, there: Collection[str]) -> bool:
    """Whether one of the names that are there is the same on a system that does not tell capitals apart."""
    return name.casefold() in {one.casefold() for one in there}
