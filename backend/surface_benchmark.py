"""The figures of signed-distance bodies, part by part: each leaves its numbers in surface.json and can run alone.

train     the preset                                   extract   its field's mesh at a resolution, timed
long      the same course drawn out                    speed     the viewport through Gaussians
parity    the published course for the same time       images    held-out views and unseen poses: PSNR, SSIM, FLIP
                                                       geometry  chamfer distance and normals against the truth
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from shared.errors import BadConfig, EnvironmentFailed

if TYPE_CHECKING:
    from avatars.captures.capture import Capture

PARTS = ("train", "long", "parity", "extract", "speed", "images", "geometry")
SUBJECTS = ("preset", "long", "parity")
FIGURES, REPORT, AVATARS, PICTURES = "surface.json", "surface.md", "avatars", "pictures"
GOALS: Mapping[str, str] = {
    "train": "at most 10 minutes, within 0.2 dB of its long run",
    "extract": "512³ within 5 s",
    "speed": "at least 200 FPS at 1024²",
    "geometry": "chamfer at most 3 mm, normal error at most 8 degrees",
}
Tell = Callable[[str], None]


@dataclass(frozen=True)
class SurfaceBenchmark:
    """What is run, and where. seconds: of training, 0 as the preset has it; long_factor: of schedule and time of
    'long'; avatar: one that is measured as 'preset' instead of training it."""

    output: Path
    capture: str = "demo_body"
    device: str = "cpu"
    preset: str = "surface_fast"
    parity_preset: str = "surface_parity"
    overrides: Mapping[str, str] = field(default_factory=dict)
    parity_overrides: Mapping[str, str] = field(default_factory=dict)
    seconds: float = 0.0
    long_factor: float = 4.0
    resolution: int = 512
    size_px: int = 1024
    samples: int = 100_000
    images: int = 0
    avatar: Path | None = None


def check_parts(parts: Sequence[str]) -> None:
    """Raises BadConfig for a part that is none."""
    wrong = [part for part in parts if part not in PARTS]
    if wrong or not parts:
        raise BadConfig("unknown part", found=wrong[0] if wrong else "none", expected=", ".join(PARTS))


def run_parts(wanted: SurfaceBenchmark, parts: Sequence[str], tell: Tell = lambda message: None) -> dict[str, Any]:
    """Run parts in order; what earlier calls left in the output folder is kept. The report is written after each."""
    check_parts(parts)
    figures = read_figures(wanted.output)
    figures |= {"capture": wanted.capture, "device": device_words(wanted.device), "goals": dict(GOALS)}
    for part in [one for one in PARTS if one in parts]:
        begun = time.monotonic()
        figures[part] = _RUN[part](wanted, figures)
        tell(f"{part}: {time.monotonic() - begun:.1f} s")
        write_report(wanted.output, figures)
    return figures


def read_figures(output: Path) -> dict[str, Any]:
    """Those of earlier calls, nothing where there are none."""
    try:
        found = json.loads((output / FIGURES).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def device_words(device: str) -> str:
    """The device's own name."""
    from backend.devices import device_name

    return device_name(device)


# --- training --------------------------------------------------------------------------------------------------------
def _train(wanted: SurfaceBenchmark, figures: dict[str, Any]) -> dict[str, Any]:
    overrides = dict(wanted.overrides)
    if wanted.seconds:
        overrides["schedule.max_seconds"] = f"{wanted.seconds:g}"
    return _trained(wanted, "preset", wanted.preset, overrides)


def _long(wanted: SurfaceBenchmark, figures: dict[str, Any]) -> dict[str, Any]:
    from avatars.training.config import load_config

    schedule = load_config(wanted.preset, wanted.overrides).schedule
    overrides = dict(wanted.overrides) | {"schedule.images": str(round(schedule.images * wanted.long_factor))}
    seconds = wanted.seconds or getattr(schedule, "max_seconds", 0.0)
    if seconds:
        overrides["schedule.max_seconds"] = f"{seconds * wanted.long_factor:g}"
    return _trained(wanted, "long", wanted.preset, overrides)


def _parity(wanted: SurfaceBenchmark, figures: dict[str, Any]) -> dict[str, Any]:
    """The published course, stopped after the time that the preset took."""
    took = wanted.seconds or float(figures.get("train", {}).get("training_seconds", 0.0))
    if not took:
        raise BadConfig("how long parity may train is not known", do="Run the part 'train' first, or give --seconds")
    overrides = dict(wanted.parity_overrides) | {"schedule.max_seconds": f"{took:g}"}
    return _trained(wanted, "parity", wanted.parity_preset, overrides)


def _trained(wanted: SurfaceBenchmark, name: str, preset: str, overrides: dict[str, str]) -> dict[str, Any]:
    from avatars.captures.opening import open_capture
    from avatars.training.config import load_config
    from avatars.training.loop import train

    config, capture = load_config(preset, overrides), open_capture(wanted.capture)
    folder = wanted.output / "training" / name
    begun = time.monotonic()
    result = train(config, capture, folder, name=name, device=wanted.device, on_event=lambda told: None)
    if result.state != "done":
        raise EnvironmentFailed(f"training {name} ended as {result.state}")
    place = wanted.output / AVATARS / f"{name}.avatar"
    shutil.rmtree(place, ignore_errors=True)
    place.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(result.avatar_folder, place)
    sheet = Path(result.report_folder) / "contact_sheet.png"
    if sheet.is_file():
        (wanted.output / PICTURES).mkdir(parents=True, exist_ok=True)
        shutil.copyfile(sheet, wanted.output / PICTURES / f"{name}_training.png")
    metrics = {key: value for key, value in result.metrics.items() if isinstance(value, int | float)}
    shutil.rmtree(folder)  # an interrupted run goes on from what is there, a finished one is done anew
    return {
        "preset": preset,
        "overrides": overrides,
        "seconds": round(time.monotonic() - begun, 1),
        "training_seconds": float(metrics["training_seconds"]),
        "metrics": metrics,
    }


# --- measuring -------------------------------------------------------------------------------------------------------
def _subjects(wanted: SurfaceBenchmark) -> dict[str, Path]:
    """Name -> folder of the avatars there are."""
    found = {name: wanted.output / AVATARS / f"{name}.avatar" for name in SUBJECTS}
    if wanted.avatar is not None:
        found["preset"] = wanted.avatar
    found = {name: place for name, place in found.items() if place.is_dir()}
    if not found:
        raise BadConfig("there is no avatar to measure", do="Run the part 'train' first, or give --avatar")
    return found


def _opened(wanted: SurfaceBenchmark) -> tuple[dict[str, Any], Capture]:
    from avatars.avatar_folder import load_avatar
    from avatars.captures.opening import open_capture

    return {name: load_avatar(at, wanted.device) for name, at in _subjects(wanted).items()}, open_capture(
        wanted.capture
    )


def _extract(wanted: SurfaceBenchmark, figures: dict[str, Any]) -> dict[str, Any]:
    """A first extraction compiles what there is to compile; the second is timed."""
    import torch

    from avatars.surface_body.inference import field_mesh, field_of

    found = {}
    for name, avatar in _opened(wanted)[0].items():
        model = field_of(avatar, wanted.device)
        field_mesh(model, 64, at_box="close")
        begun = time.perf_counter()
        mesh = field_mesh(model, wanted.resolution, at_box="close")
        if torch.device(wanted.device).type == "cuda":
            torch.cuda.synchronize()
        found[name] = {
            "resolution": wanted.resolution,
            "seconds": round(time.perf_counter() - begun, 3),
            "faces": len(mesh.faces),
            "million_distances": round(mesh.evaluations / 1e6, 2),
        }
    return found


def _speed(wanted: SurfaceBenchmark, figures: dict[str, Any]) -> dict[str, Any]:
    from avatars.surface_body.avatar import SurfaceAvatar
    from avatars.surface_body.speed import measure

    avatars, _ = _opened(wanted)
    return {
        name: asdict(measure(avatar, device=wanted.device, size_px=wanted.size_px))
        for name, avatar in avatars.items()
        if isinstance(avatar, SurfaceAvatar)
    }


def _images(wanted: SurfaceBenchmark, figures: dict[str, Any]) -> dict[str, Any]:
    from avatars.evaluation.drawn import drawer
    from avatars.evaluation.frame_lists import frame_views
    from avatars.evaluation.infer import infer_frames

    avatars, capture = _opened(wanted)
    views = {part: frame_views(capture, part) for part in ("nvs", "unseen")}
    some = [item for part in views.values() for item in (_spread(part, wanted.images) if wanted.images else part)]
    found = {}
    for name, avatar in avatars.items():
        place = wanted.output / PICTURES / f"{name}_frames"
        draw = drawer(avatar, "gaussians", wanted.device)
        found[name] = dict(infer_frames(draw, capture, some, place, level=1, device=wanted.device).means)
        shutil.copyfile(place / "contact_sheet.png", wanted.output / PICTURES / f"{name}_frames.png")
        shutil.rmtree(place)
    return found


def _spread(items: Sequence[Any], count: int) -> list[Any]:
    step = max(1, len(items) // count)
    return list(items[::step][:count])


def _geometry(wanted: SurfaceBenchmark, figures: dict[str, Any]) -> dict[str, Any]:
    from avatars.evaluation.geometry import geometry_means, measure_geometry, truth_of, write_geometry
    from avatars.evaluation.posed_surfaces import surface_of

    avatars, capture = _opened(wanted)
    truth, found = truth_of(capture), {}
    for name, avatar in avatars.items():
        surface, kind = surface_of(avatar)
        rows = measure_geometry(surface, capture, truth, samples=wanted.samples)
        place = wanted.output / PICTURES / f"{name}_geometry"
        write_geometry(place, surface, capture, truth, rows, kind)
        shutil.copyfile(place / "geometry.png", wanted.output / PICTURES / f"{name}_geometry.png")
        shutil.rmtree(place)
        found[name] = geometry_means(rows)
    return found


_RUN: Mapping[str, Callable[[SurfaceBenchmark, dict[str, Any]], dict[str, Any]]] = {
    "train": _train,
    "long": _long,
    "parity": _parity,
    "extract": _extract,
    "speed": _speed,
    "images": _images,
    "geometry": _geometry,
}


# --- the report ------------------------------------------------------------------------------------------------------
def write_report(output: Path, figures: Mapping[str, Any]) -> None:
    """surface.json and surface.md."""
    from avatars.files import write_atomically

    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / FIGURES, (json.dumps(figures, indent=1) + "\n").encode())
    write_atomically(output / REPORT, markdown(figures).encode())


def markdown(figures: Mapping[str, Any]) -> str:
    """The tables of the parts that were run."""
    lines = [f"# Signed-distance body of {figures['capture']} on {figures['device']}", ""]
    trained = {name: figures[part] for part, name in zip(PARTS, SUBJECTS) if part in figures}
    if trained:
        lines += ["| run | preset | seconds: all | training | images | held-out PSNR dB |", "|---|---|---|---|---|---|"]
        for name, one in trained.items():
            metrics = one["metrics"]
            took = f"{one['seconds']:.0f} | {one['training_seconds']:.0f}"
            lines.append(f"| {name} | {one['preset']} | {took} | {metrics['images']} | {metrics['psnr_db']:.2f} |")
        lines += [f"Goal: {GOALS['train']}.", ""]
    if "images" in figures:
        lines += ["| pictures | of | PSNR dB | SSIM | FLIP |", "|---|---|---|---|---|"]
        for name, parts in figures["images"].items():
            for part, one in parts.items():
                lines.append(f"| {part} | {name} | {one['psnr_db']:.2f} | {one['ssim']:.4f} | {one['flip']:.4f} |")
        lines.append("")
    if "geometry" in figures:
        lines += ["| geometry | of | chamfer mm | to truth mm | normals deg | as shaded |", "|---|---|---|---|---|---|"]
        for name, parts in figures["geometry"].items():
            for part, one in parts.items():
                lengths = f"{one['chamfer_m'] * 1000:.2f} | {one['accuracy_m'] * 1000:.2f}"
                numbers = f"{lengths} | {one['normal_error_deg']:.1f} | {one['shaded_error_deg']:.1f}"
                lines.append(f"| {part} | {name} | {numbers} |")
        lines += [f"Goal: {GOALS['geometry']}.", ""]
    if "extract" in figures:
        lines += ["| extraction | of | seconds | faces | million distances |", "|---|---|---|---|---|"]
        for name, one in figures["extract"].items():
            numbers = f"{one['seconds']:.2f} | {one['faces']} | {one['million_distances']}"
            lines.append(f"| {one['resolution']}³ | {name} | {numbers} |")
        lines += [f"Goal: {GOALS['extract']}.", ""]
    if "speed" in figures:
        lines += [
            "| viewport | Gaussians | frames/s | whole way ms | raw ms | times raw |",
            "|---|---|---|---|---|---|",
        ]
        for name, one in figures["speed"].items():
            times = f"{one['frames_per_s']:.0f} | {one['viewport_ms']:.2f} | {one['raw_ms']:.2f}"
            times += f" | {one['render_ratio']:.2f}"
            lines.append(f"| {name}, {one['size_px']}² | {one['gaussians']} | {times} |")
        lines += [f"Goal: {GOALS['speed']}.", ""]
    return "\n".join(lines) + "\n"
