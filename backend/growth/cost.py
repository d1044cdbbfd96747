"""What many avatars and frames would take, computed from measured figures: hours of GPUs, bytes and money.

Everything is proportion: nothing here was measured at that size. The assumptions are in ASSUMPTIONS.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from backend.growth.fit import Growth
from backend.growth.run import curve, fits
from shared.errors import BadConfig

ASSUMPTIONS = (
    "A frame costs the line through the measured avatars, plus what the lines through Gaussians and pixels say beyond "
    "the figures' own head and picture; sub-frames cost as much as frames.",
    "Writing a PNG costs as much a pixel as the measured picture, on one core; readers of films, transfers, failures, "
    "queues and Blender itself cost nothing.",
    "Without writers one process draws and writes by turns; with writers beside, as `effigy render` has them, the "
    "slower of the two sets the pace, a core for each.",
    "Every avatar is trained alone on one GPU for the given seconds; GPUs are used to the full and cost the same by "
    "the hour whatever they do.",
)
GIB = 2**30
MIB = 2**20
S_PER_HOUR = 3600.0


@dataclass(frozen=True)
class Rates:
    """Measured on one device: lines of ms a frame over avatars, Gaussians of one, and pixels; and of files.

    gaussians, pixels: of the head and the picture that the line over avatars was measured with.
    """

    device: str
    gaussians: float
    pixels: float
    over_avatars: Growth
    over_gaussians: Growth
    over_pixels: Growth
    png_ms_a_pixel: float
    png_bytes_a_pixel: float
    avatar_bytes_a_gaussian: float
    avatar_load_ms: float

    def frame_ms(self, avatars: float, gaussians: float, pixels: float) -> float:
        """A picture from poses to the host; never less than the cheapest that was measured would suggest."""
        more_gaussians = self.over_gaussians.at(gaussians) - self.over_gaussians.at(self.gaussians)
        more_pixels = self.over_pixels.at(pixels) - self.over_pixels.at(self.pixels)
        least = min(line.fixed for line in (self.over_avatars, self.over_gaussians, self.over_pixels))
        return max(least, self.over_avatars.at(avatars) + avatars * more_gaussians + more_pixels)


@dataclass(frozen=True)
class Film:
    """What is to be made. in_frame: avatars in each frame; samples: sub-frames of each; writers: threads of each GPU
    that write pictures beside the drawing, 0 for none; price: of a GPU for an hour, in any money."""

    avatars: int
    frames: int
    width_px: int = 1920
    height_px: int = 1080
    gaussians: int = 60_000
    in_frame: int = 1
    samples: int = 1
    training_s: float = 60.0
    writers: int = 0
    price: float = 0.0

    def __post_init__(self) -> None:
        for name, value, least in (
            ("--avatars", self.avatars, 0),
            ("--frames", self.frames, 0),
            ("--size", min(self.width_px, self.height_px), 1),
            ("--gaussians", self.gaussians, 1),
            ("--in-frame", self.in_frame, 1),
            ("--samples", self.samples, 1),
            ("--training-seconds", self.training_s, 0),
            ("--writers", self.writers, 0),
            ("--price", self.price, 0),
        ):
            if not least <= value < float("inf"):
                raise BadConfig(f"{name} is out of range", found=str(value), expected=f"at least {least}")


@dataclass(frozen=True)
class Cost:
    """gpu_hours: training, drawing, waiting for pictures to be written. bottleneck: what takes most of them, in words.

    draw_ms, write_ms: of one frame by one process. core_hours: of writing pictures.
    """

    training_hours: float
    drawing_hours: float
    waiting_hours: float
    core_hours: float
    avatar_bytes: float
    frame_bytes: float
    price: float
    draw_ms: float
    write_ms: float
    bottleneck: str

    @property
    def gpu_hours(self) -> float:
        """All that a GPU is held for."""
        return self.training_hours + self.drawing_hours + self.waiting_hours


def cost_of(film: Film, rates: Rates) -> Cost:
    """What a film takes at these rates."""
    pixels = film.width_px * film.height_px
    draw_ms = film.samples * rates.frame_ms(film.in_frame, film.gaussians, pixels)
    write_ms = rates.png_ms_a_pixel * pixels
    waiting_ms = write_ms if not film.writers else max(0.0, write_ms / film.writers - draw_ms)
    hours = film.frames / 1000 / S_PER_HOUR
    training = film.avatars * film.training_s / S_PER_HOUR
    drawing, waiting = draw_ms * hours, waiting_ms * hours
    parts = {
        f"training {film.avatars:,} avatars": training,
        "drawing frames": drawing,
        "GPUs waiting while a core compresses pictures": waiting,
    }
    worst = max(parts, key=lambda name: parts[name])
    whole = sum(parts.values())
    share = f" ({100 * parts[worst] / whole:.0f} % of the GPU-hours)" if whole else ""
    return Cost(
        training,
        drawing,
        waiting,
        write_ms * hours,
        film.avatars * rates.avatar_bytes_a_gaussian * film.gaussians,
        film.frames * rates.png_bytes_a_pixel * pixels,
        film.price * whole,
        draw_ms,
        write_ms,
        (worst if whole else "nothing") + share,
    )


def rates_of(figures: Mapping[str, Any], of_files: Mapping[str, Any] | None = None) -> Rates:
    """From the figures of `benchmark growth`; what files take from of_files where given, since it is a core that
    writes them. Raises BadConfig where a part is missing."""
    lines, of_files = fits(figures), figures if of_files is None else of_files
    missing = [part for part in ("gaussians", "resolution", "avatars") if f"{part} time" not in lines]
    missing += [] if of_files.get("files") else ["files"]
    if missing:
        raise BadConfig(
            "The figures have too few parts to compute a cost",
            found=f"no {missing[0]}",
            do=f"Run `benchmark growth --parts {' '.join(missing)}` into the same folder",
        )
    files = next(iter(of_files["files"].values()))
    pixels = float(files["size_px"]) ** 2
    crowd = curve(figures, "avatars")[0]
    return Rates(
        str(figures["device"]),
        float(crowd["gaussians"]),
        float(crowd["size_px"]) ** 2,
        lines["avatars time"],
        lines["gaussians time"],
        lines["resolution time"],
        float(files["png_ms"]) / pixels,
        float(files["png_mib"]) * MIB / pixels,
        float(files["avatar_mib"]) * MIB / float(files["gaussians"]),
        float(files["avatar_load_ms"]),
    )


def in_lines(film: Film, cost: Cost, rates: Rates) -> list[str]:
    """The bill, its assumptions after it."""
    size = f"{film.width_px} x {film.height_px}"
    lines = [
        f"{film.avatars:,} avatars of {film.gaussians:,} Gaussians, {film.frames:,} frames of {size} with "
        f"{film.in_frame} of them in each, {film.samples} sub-frame{'s' * (film.samples > 1)}; from figures of "
        f"{rates.device}",
        f"training   {cost.training_hours:12,.1f} GPU-hours   ({film.training_s:g} s an avatar)",
        f"drawing    {cost.drawing_hours:12,.1f} GPU-hours   ({cost.draw_ms:.2f} ms a frame)",
        f"waiting    {cost.waiting_hours:12,.1f} GPU-hours   (a PNG takes {cost.write_ms:.0f} ms of a core; "
        + (f"{film.writers} write beside)" if film.writers else "drawn and written by turns)"),
        f"together   {cost.gpu_hours:12,.1f} GPU-hours, {cost.core_hours:,.1f} core-hours of writing",
        f"avatars    {cost.avatar_bytes / GIB:12,.1f} GiB",
        f"frames     {cost.frame_bytes / GIB:12,.1f} GiB",
    ]
    if film.price:
        lines.append(f"money      {cost.price:12,.2f}             at {film.price:g} a GPU-hour, the price you gave")
    return [*lines, f"bottleneck: {cost.bottleneck}", "Assumed:", *(f"- {line}" for line in ASSUMPTIONS)]
