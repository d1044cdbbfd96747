"""What `benchmark growth` prints: a table and a line for each curve, where the time goes, and the trainings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from backend.growth.fit import Growth, in_words
from backend.growth.run import curve, fits, settled
from backend.growth.settings import CURVES

PER: Mapping[str, tuple[float, str]] = {
    "gaussians": (1000, "a thousand Gaussians"),
    "resolution": (1e6, "a million pixels"),
    "avatars": (1, "an avatar"),
    "lit": (1, "an avatar"),
    "batch": (1, "a camera"),
}


def markdown(figures: Mapping[str, Any]) -> str:
    """All tables of the figures there are."""
    defaults = figures["defaults"]
    lines = [f"# How cost grows on {figures['device']}", ""]
    lines.append(
        f"{defaults['gaussians']} Gaussians an avatar, {defaults['size_px']}², 1 avatar where nothing else is said."
    )
    lines.append("")
    found = fits(figures)
    if settled(figures) != "frame_ms":
        lines += ["Medians; lines and plots go through the fastest call of each point, since others use the cores.", ""]
    for part, what in CURVES.items():
        points = curve(figures, part)
        if points:
            lines += [*_curve(part, what, points, found), ""]
    for key, one in figures.get("where", {}).items():
        lines += [f"Where the time goes: {key}", "", *_where(one), ""]
    for key, one in figures.get("files", {}).items():
        numbers = f"avatar {one['avatar_mib']:.1f} MiB on disk, read in {one['avatar_load_ms']:.0f} ms"
        lines += [f"{key}: {numbers}; PNG {one['png_mib']:.2f} MiB in {one['png_ms']:.0f} ms", ""]
        if "beside_ms" in one:
            turns = f"drawn and written by turns {one['by_turns_ms']:.1f} ms a frame"
            lines += [f"{turns}, with {one['writers']} writers beside {one['beside_ms']:.1f} ms", ""]
    if figures.get("training"):
        lines += _training(figures["training"])
    return "\n".join(lines).rstrip() + "\n"


def _curve(part: str, what: str, points: list[dict[str, Any]], found: Mapping[str, Growth]) -> list[str]:
    cuda = points[0]["device_ms"] is not None
    head = f"| {what} | ms a picture | fastest | posing | blending | rest |" + (" device | launches |" if cuda else "")
    lines = [head + " avatars MiB | peak MiB |", "|---" * (head.count("|") + 1) + "|"]
    for point in points:
        rest = max(0.0, point["frame_ms"] - point["pose_ms"] - point["draw_ms"])
        x = f"{point['size_px']}²" if part == "resolution" else f"{point['x']:,.0f}"
        row = f"| {x} | {point['frame_ms']:.2f} | {point['best_ms']:.2f} | {point['pose_ms']:.2f}"
        row += f" | {point['draw_ms']:.2f} | {rest:.2f} |" + (
            f" {point['device_ms']:.2f} | {point['kernels']:.0f} |" if cuda else ""
        )
        peak = "-" if point["peak_mib"] is None else f"{point['peak_mib']:.0f}"
        lines.append(f"{row} {point['held_mib']:.0f} | {peak} |")
    per, what_per = PER[part]
    for kind, unit in (("time", "ms"), ("memory", "MiB")):
        fit = found.get(f"{part} {kind}")
        if fit is not None:
            whole = " of a whole batch" if part == "batch" else ""
            lines += ["", f"{kind}{whole}: {in_words(fit, unit, 'x', per, what_per)}"]
    return lines


def _where(one: Mapping[str, Any]) -> list[str]:
    lines = ["| light | ms a picture | posing | blending | channels | with a channel an avatar | bound by |"]
    lines.append("|---|---|---|---|---|---|---|")
    for name in ("own light", "lit"):
        part = one[name]
        plain = f"{part['plain_draw_ms']:.2f} ({part['plain_channels']})" if "plain_draw_ms" in part else "-"
        times = f"{part['frame_ms']:.2f} | {part['pose_ms']:.2f} | {part['draw_ms']:.2f} | {part['channels']}"
        lines.append(f"| {name} | {times} | {plain} | {part['bottleneck']} |")
    for name in ("own light", "lit"):
        groups = one[name].get("groups_ms", {})
        if groups:
            shares = ", ".join(f"{group} {took:.2f}" for group, took in groups.items())
            lines += ["", f"{name}, ms of the device: {shares}"]
    return lines


def _training(trained: Mapping[str, Any]) -> list[str]:
    rows = sorted(trained.values(), key=lambda one: int(one["frames"]))
    targets = list(rows[0]["reached_s"])
    lines = ["| pictures | " + " | ".join(f"s to {target} dB" for target in targets) + " | best dB | images | s |"]
    lines.append("|---" * (len(targets) + 4) + "|")
    for one in rows:
        reached = [one["reached_s"].get(target) for target in targets]
        times = " | ".join("never" if seconds is None else f"{seconds:.1f}" for seconds in reached)
        lines.append(
            f"| {one['frames']} | {times} | {one['best_db']:.2f} | {one['images']} | {one['training_s']:.0f} |"
        )
    return lines
