"""What was done to a scene's compositing, as a text kept in the .blend file."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Record:
    """What `remove` needs, kept on the scene as JSON. tree: one we made; nodes: ours in the user's tree."""

    layer: str
    nodes: tuple[str, ...] = ()
    tree: str = ""
    nodes_switched_on: bool = False
    depth_switched_on: bool = False
    proxies: dict[str, dict[str, bool]] = field(default_factory=dict)


def record_from_text(text: str) -> Record | None:
    """None for no text, and for one that is none of ours: a .blend file may come from anyone."""
    try:
        found: Any = json.loads(text) if text else None
        if not isinstance(found, dict) or not isinstance(found.get("nodes"), list):
            return None
        record = Record(**{**found, "nodes": tuple(found["nodes"])})
    except (ValueError, TypeError, RecursionError):
        return None
    texts = (record.layer, record.tree, *record.nodes)
    flags = (record.nodes_switched_on, record.depth_switched_on)
    whole = all(isinstance(one, str) for one in texts) and all(isinstance(one, bool) for one in flags)
    whole = whole and isinstance(record.proxies, dict)
    for names in record.proxies.values() if whole else ():
        whole = whole and isinstance(names, dict) and all(isinstance(value, bool) for value in names.values())
    return record if whole else None
