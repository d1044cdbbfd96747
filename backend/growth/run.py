"""`benchmark growth`, point by point: each is written down when it is measured, and not measured again."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, fields
from functools import partial
from pathlib import Path
from typing import Any

from backend.growth.fit import Growth, fitted
from backend.growth.settings import CURVES, PARTS, GrowthBenchmark, check_parts
from shared.errors import BadConfig

FIGURES, TABLE = "growth.json", "growth.csv"
Tell = Callable[[str], None]
Measured = tuple[str, Callable[[], Any]]


def run_growth(wanted: GrowthBenchmark, parts: Sequence[str], tell: Tell = lambda message: None) -> dict[str, Any]:
    """Measure what is missing of `parts`; figures of earlier calls in the output folder are kept. Raises BadConfig."""
    from backend.devices import device_name

    check_parts(parts)
    figures = read_figures(wanted.output / FIGURES) if (wanted.output / FIGURES).is_file() else {}
    device = device_name(wanted.device)
    if figures.get("device", device) != device:
        raise BadConfig(
            "The output folder holds figures of another device",
            found=figures["device"],
            expected=device,
            do="Choose another --output",
        )
    figures["device"] = device
    figures["defaults"] = {"gaussians": wanted.gaussians, "size_px": wanted.size_px}
    waiting = [(part, one) for part in PARTS if part in parts for one in _points(part, wanted, tell)]
    warm: set[str] = set()
    for number, (part, (key, act)) in enumerate(waiting, 1):
        found = figures.setdefault(part, {})
        if key not in found:
            kind = "training" if part == "training" else "drawing"
            if kind not in warm:  # what is compiled or loaded once belongs to no point
                tell(f"warming up for {kind}")
                _WARM_UPS[kind](wanted)
                warm.add(kind)
            found[key] = act()
            figures["fits"] = {name: asdict(fit) for name, fit in fits(figures).items()}
            write_figures(wanted.output, figures)
        tell(f"[{number}/{len(waiting)}] {part}, {key}: {_brief(part, found[key])}")
    return figures


def _points(part: str, wanted: GrowthBenchmark, tell: Tell) -> list[Measured]:
    """What is measured for a part: a name that says what it was, and how."""
    from backend.growth import scenes
    from backend.growth.learning import learned

    count, size, device, seconds = wanted.gaussians, wanted.size_px, wanted.device, wanted.seconds

    def point(x: float, gaussians: int, size_px: int, avatars: int) -> Measured:
        def act() -> dict[str, Any]:
            return asdict(scenes.scene_point(part, x, gaussians, size_px, avatars, device, seconds))

        return f"{gaussians} Gaussians, {size_px} px, avatars {avatars}", act

    def batch(cameras: int) -> Measured:
        name = f"{count} Gaussians, {size} px, cameras {cameras}"
        return name, lambda: asdict(scenes.batch_point(cameras, count, size, device, seconds))

    def training(frames: int) -> Measured:
        name = f"{frames} of {wanted.capture}, {wanted.preset}, {wanted.train_s:g} s"
        return name, lambda: learned(wanted, frames, tell)

    crowd = max(wanted.crowds)
    found: dict[str, Callable[[], list[Measured]]] = {
        "gaussians": lambda: [point(some, some, size, 1) for some in wanted.counts],
        "resolution": lambda: [point(side**2, count, side, 1) for side in wanted.sizes_px],
        "avatars": lambda: [point(some, count, size, some) for some in wanted.crowds],
        "lit": lambda: [point(some, count, size, some) for some in wanted.crowds],
        "batch": lambda: [batch(some) for some in wanted.batches],
        "files": lambda: [
            (f"{count} Gaussians, {size} px", lambda: scenes.file_figures(count, size, device, seconds)),
        ],
        "where": lambda: [
            (f"{count} Gaussians, {size} px, avatars {some}", partial(_where, wanted, some))
            for some in sorted({1, crowd})
        ],
        "training": lambda: [training(frames) for frames in wanted.frames],
    }
    return found[part]()


def _warm_drawing(wanted: GrowthBenchmark) -> None:
    from backend.growth import scenes

    scenes.where(wanted.gaussians, 64, 3, wanted.device, 0.01)
    scenes.batch_point(2, wanted.gaussians, 64, wanted.device, 0.01)


def _warm_training(wanted: GrowthBenchmark) -> None:
    from backend.growth.learning import warm_up

    warm_up(wanted)


_WARM_UPS: Mapping[str, Callable[[GrowthBenchmark], None]] = {"drawing": _warm_drawing, "training": _warm_training}


def _where(wanted: GrowthBenchmark, avatars: int) -> dict[str, Any]:
    from backend.growth import scenes

    return scenes.where(wanted.gaussians, wanted.size_px, avatars, wanted.device, wanted.seconds)


def _brief(part: str, found: Mapping[str, Any]) -> str:
    if part in CURVES:
        return f"{found['frame_ms']:.2f} ms a picture"
    if part == "files":
        return f"avatar {found['avatar_mib']:.1f} MiB, PNG {found['png_ms']:.0f} ms"
    if part == "where":
        return str(found["lit"]["bottleneck"])
    return f"best {found['best_db']:.2f} dB in {found['training_s']:.0f} s"


def curve(figures: Mapping[str, Any], part: str) -> list[dict[str, Any]]:
    """The points of a curve, by what grows; Gaussians are those that there were."""
    points = [dict(point) for point in figures.get(part, {}).values()]
    for point in points:
        if part == "gaussians":
            point["x"] = point["gaussians"]
    return sorted(points, key=lambda point: float(point["x"]))


def fits(figures: Mapping[str, Any]) -> dict[str, Growth]:
    """'PART time' and 'PART memory' -> the line through a curve of two points or more; of whole batches."""
    found = {}
    for part in CURVES:
        points = curve(figures, part)
        times = [point[settled(figures)] * point["batch"] for point in points]
        memory = [point["peak_mib"] or 0.0 for point in points]
        for name, values in (("time", times), ("memory", memory)):
            line = fitted([point["x"] for point in points], values)
            if line is not None:
                found[f"{part} {name}"] = line
    return found


def settled(figures: Mapping[str, Any]) -> str:
    """Which time of a point a curve goes through: medians on CUDA; on the CPU, whose cores others use, the fastest."""
    return "frame_ms" if str(figures["device"]).startswith("cuda") else "best_ms"


def read_figures(path: Path) -> dict[str, Any]:
    """Of an earlier run. Raises BadConfig for a file that holds none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BadConfig(f"{path} holds no figures", found=str(error), do="Run `benchmark growth` first") from error
    if not isinstance(found, dict) or "device" not in found:
        raise BadConfig(f"{path} holds no figures", expected=f"a {FIGURES} of `benchmark growth`")
    return found


def write_figures(output: Path, figures: Mapping[str, Any]) -> None:
    """growth.json, and growth.csv with all points of all curves."""
    from avatars.files import write_atomically
    from backend.growth.scenes import Point

    text = io.StringIO()
    names = [field.name for field in fields(Point)]
    table = csv.DictWriter(text, names, lineterminator="\n")
    table.writeheader()
    for part in CURVES:
        for point in curve(figures, part):
            table.writerow({name: _rounded(point[name]) for name in names})
    write_atomically(output / FIGURES, (json.dumps(_rounded(dict(figures)), indent=1) + "\n").encode())
    write_atomically(output / TABLE, text.getvalue().encode())


def _rounded(value: Any) -> Any:
    """Numbers with six digits, which is more than a timing has."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value
