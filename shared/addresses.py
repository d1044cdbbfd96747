"""Where a backend listens when nobody says otherwise."""

from __future__ import annotations

DEFAULT_ADDRESS = "tcp://127.0.0.1:47615"
