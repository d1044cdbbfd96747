"""Which button mends an error, where there is one. Tables: a piece of the sentence -> what to press."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


@dataclass(frozen=True)
class Remedy:
    """label: on the button; operator: its Blender name."""

    label: str
    operator: str


_START = Remedy("Start a Backend", "effigy.start_backend")
_KEY = Remedy("Type the Key", "effigy.preferences")
REMEDIES: tuple[tuple[str, Remedy], ...] = (
    ("is in use", Remedy("Start at a Free Port", "effigy.start_at_free_port")),
    ("Blender may not go online", Remedy("Open Network Preferences", "effigy.network_preferences")),
    ("key is missing or wrong", _KEY),
    ("does not know this client's key", Remedy("Copy My Public Key", "effigy.copy_own_key")),
    ("has another key than was given", _KEY),
    ("does not encrypt, the backend", _KEY),
    ("hangs up", _KEY),
    ("does not know the backend's Python", Remedy("Choose It", "effigy.preferences")),
    ("No backend answers at", _START),
    ("stopped or lost the connection", _START),
    ("Link the avatar again", Remedy("Use the Backend's Version", "effigy.relink")),
)


def remedy_for(sentence: str) -> Remedy | None:
    """The remedy of an error by its sentence; None where there is nothing to press."""
    return next((remedy for piece, remedy in REMEDIES if piece in sentence), None)


@dataclass(frozen=True)
class JobRemedy:
    """label: on the button; action: 'resume', 'again' (the same training with `preset`), 'form' (put it into the form,
    to be changed) or 'check' (its capture)."""

    label: str
    action: str
    preset: str = ""


LARGE_TO_SMALL = (
    ("rgb_head_nersemble", "rgb_head_quality", "rgb_head_offline", "demo_cpu"),
    ("mlp_body_paper", "mlp_body_fast", "mlp_body_cpu"),
    ("relit_body", "relit_body_cpu"),
    ("relit_head", "relit_head_cpu"),
)
"""Presets of one kind of avatar each, by what they need; the last ones are for machines without a GPU."""
_MEMORY = ("out of memory", "lack of memory", "memoryerror", "paging file", "cannot allocate")
_DEVICE = ("cuda device is not there", "no cuda device", "without triton", "no gsplat", "needs a cuda")
_SETTINGS = ("there is no preset", "has no setting", "preset ", "cannot be ")
_CAPTURE = ("capture", "no images", "the recording")
_GOES_ON = ("worker process stopped", "worker stopped", "the disk refused", "resume")


def smaller_preset(preset: str, offered: Collection[str]) -> str:
    """The next preset of those a backend offers that needs less; empty where there is none."""
    for chain in LARGE_TO_SMALL:
        if preset in chain:
            return next((name for name in chain[chain.index(preset) + 1 :] if name in offered), "")
    return ""


def preset_for_cpu(preset: str, offered: Collection[str]) -> str:
    """That of the same kind of avatar which a machine without a GPU can train; empty where it is this one or none."""
    for chain in LARGE_TO_SMALL:
        if preset in chain:
            return chain[-1] if chain[-1] in offered and chain[-1] != preset else ""
    return ""


def job_remedies(sentence: str, preset: str, offered: Collection[str]) -> tuple[JobRemedy, ...]:
    """What may be tried about a training that failed with this sentence, the most promising first."""
    said = sentence.lower()

    def about(pieces: tuple[str, ...]) -> bool:
        return any(piece in said for piece in pieces)

    found = []
    if about(_MEMORY) and (smaller := smaller_preset(preset, offered)):
        found.append(JobRemedy(f"Train with {smaller}", "again", smaller))
    if about(_DEVICE) and (modest := preset_for_cpu(preset, offered)):
        found.append(JobRemedy(f"Train with {modest}", "again", modest))
    if about(_CAPTURE) and not found:
        found.append(JobRemedy("Check Its Capture", "check"))
    if about(_SETTINGS) and not found:
        found.append(JobRemedy("Change Its Settings", "form"))
    if about(_GOES_ON) or about(_MEMORY) or not found:
        found.append(JobRemedy("Resume", "resume"))
    return tuple(found)
