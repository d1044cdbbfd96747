"""The versions of an avatar: what was edited from what, as the library's list says."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .._shared import messages

Avatars = Sequence[messages.AvatarSummary]


@dataclass(frozen=True, eq=False)
class Version:
    """One version of a family. depth: how many edits lie between it and the family's oldest."""

    summary: messages.AvatarSummary
    depth: int


def parent_of(summary: messages.AvatarSummary, avatars: Avatars) -> messages.AvatarSummary | None:
    """What it was edited from, where the library still has exactly that; None otherwise."""
    if summary.edit is None:
        return None
    return next((other for other in avatars if other.digest and other.digest == summary.edit.parent_digest), None)


def family_of(avatar_id: str, avatars: Avatars) -> tuple[Version, ...]:
    """All versions with the same oldest one, each below what it was edited from, siblings by age; () if unknown."""
    oldest = next((summary for summary in avatars if summary.avatar_id == avatar_id), None)
    if oldest is None:
        return ()
    seen = {oldest.avatar_id}
    while (parent := parent_of(oldest, avatars)) is not None and parent.avatar_id not in seen:
        oldest = parent
        seen.add(parent.avatar_id)
    found: list[Version] = []
    waiting = [Version(oldest, 0)]
    known = {oldest.avatar_id}
    while waiting:
        version = waiting.pop()
        found.append(version)
        children = [
            other
            for other in avatars
            if other.edit is not None
            and other.edit.parent_digest == version.summary.digest
            and version.summary.digest
            and other.avatar_id not in known
        ]
        known.update(child.avatar_id for child in children)
        newest_first = sorted(children, key=lambda child: child.created, reverse=True)
        waiting += [Version(child, version.depth + 1) for child in newest_first]
    return tuple(found)


def pair_for(chosen: str, shown: str, avatars: Avatars) -> tuple[str, str] | None:
    """Ids of (before, after) to compare: the chosen version with the shown one, or the shown one with its parent.

    The earlier one is before. None where there is nothing to compare with.
    """
    by_id = {summary.avatar_id: summary for summary in avatars}
    if chosen == shown:
        parent = parent_of(by_id[shown], avatars) if shown in by_id else None
        return None if parent is None else (parent.avatar_id, shown)
    ancestor = by_id.get(shown)
    for _ in range(len(by_id)):
        ancestor = parent_of(ancestor, avatars) if ancestor is not None else None
        if ancestor is None:
            break
        if ancestor.avatar_id == chosen:
            return chosen, shown
    return shown, chosen


def version_name(avatar_name: str, words: str, longest: int = 60) -> str:
    """`Anna, bronze statue`: a name for the new version that a library can keep."""
    kept = "".join(letter for letter in words if letter not in '/\\:*?<>|"' and letter >= " ").strip()
    name = " ".join(f"{avatar_name}, {kept}".split())
    return name[:longest].rstrip(" ,.").lstrip(".") or "Edit"
