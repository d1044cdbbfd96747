"""A report to paste into an issue: versions, where the backend is, how it is, what went wrong; no keys, no home."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .faults import Fault
from .link import LinkState

FAULTS = 12
DETAIL_LINES = 25


def report_text(
    versions: Mapping[str, str], address: str, state: LinkState | None, faults: Sequence[Fault], secrets: Sequence[str]
) -> str:
    """Markdown. versions: 'Blender' -> '4.3.2'. secrets: texts that must not be in it, such as the key."""
    lines = ["## Effigy report", ""]
    lines += [f"- {name}: {value}" for name, value in versions.items()]
    lines.append(f"- Address: {address}")
    lines += _backend(state)
    lines += ["", "### What went wrong last", ""]
    lines += [line for fault in list(faults)[-FAULTS:] for line in _fault(fault)] or ["Nothing."]
    return without_secrets("\n".join(lines) + "\n", secrets)


def without_secrets(text: str, secrets: Sequence[str]) -> str:
    """The text with secrets blotted out and the home folder shortened."""
    for secret in secrets:
        if len(secret) > 2:
            text = text.replace(secret, "***")
    home = str(Path.home())
    return text.replace(home, "~") if len(home) > 1 else text


def _backend(state: LinkState | None) -> list[str]:
    if state is None:
        return ["- Backend: not connected"]
    if not state.connected or state.welcome is None:
        return [f"- Backend: {state.status}; {state.problem or 'no answer yet'}"]
    welcome = state.welcome
    lines = [
        f"- Backend: version {welcome.version}, protocol {welcome.protocol}, {welcome.rasteriser}",
        f"- Latency: {state.latency_ms:.1f} ms",
    ]
    if state.health is not None:
        health = state.health
        lines.append(f"- Device: {health.device}, {memory_text(health.memory_used_bytes, health.memory_total_bytes)}")
        lines.append(
            f"- Queue: {health.renders_waiting} pictures, {health.jobs_waiting} jobs; {health.jobs_running} run"
        )
    lines += [f"- Job {job.name}: {job.state} {job.step}/{job.steps} {job.message}" for job in state.jobs[:5]]
    return lines


def _fault(fault: Fault) -> list[str]:
    clock = time.strftime("%H:%M:%S", time.localtime(fault.at_s))
    detail = fault.detail.strip().splitlines()[-DETAIL_LINES:]
    return [f"**{clock} {fault.where}**: {fault.sentence}", *(["```", *detail, "```"] if detail else []), ""]


def memory_text(used_bytes: int, total_bytes: int) -> str:
    """`3.4 of 8.0 GB`, or that it is not known yet."""
    if not total_bytes:
        return "memory not known yet"
    return f"{used_bytes / 1e9:.1f} of {total_bytes / 1e9:.1f} GB"
