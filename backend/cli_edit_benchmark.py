"""`benchmark edit`: how fast edits are optimised, and what weighted blending and the adversarial term do to them."""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from rich.console import Console
from rich.table import Table

from backend.cli_chosen import prepare_device
from backend.cli_edit import PUBLISHED_ADVERSARY
from backend.cli_train import overrides_of
from backend.home import open_home
from backend.library import Library, avatar_place
from backend.options import add_device, add_home

if TYPE_CHECKING:
    from torch import Tensor

    from avatars.text_edit.trainer import EditTrainer
    from avatars.training.loop import Run

GOALS = (
    "Goals on one H200 at 512 x 512, without the time of the editor: at least 60 iterations a second; a step with "
    "weighted blending at most twice one without."
)
TITLES = {
    "iterations_per_s": "it/s",
    "edit_s_a_view": "editor s/view",
    "hidden_change": "hidden",
    "other_change": "other",
    "edit_psnr_db": "edit dB",
    "flicker": "flicker",
    "flicker_excess": "excess",
    "edits_excess": "of edits",
    "outside_psnr_db": "outside dB",
}
SHOWN, LABEL_PX = 6, 14
SEQUENCE = 12
"""Views of the run whose flicker is measured."""
ADAPTED = {"edit.wabe": "exact", "edit.rates.deltas": "1"}
VARIANTS = {
    "ordinary": {"edit.wabe": "off"},
    "wabe exact": {"edit.wabe": "exact"},
    "wabe mask": {"edit.wabe": "mask"},
    "exact + adversarial": {"edit.wabe": "exact", "edit.adversarial": "true"},
}
FLICKERING = {
    "adapted": ADAPTED,
    "adapted + adversarial": ADAPTED | {"edit.adversarial": "true"},
    "adapted + published": ADAPTED | PUBLISHED_ADVERSARY,
}
"""Also run where edits disagree: what follows expressions and directions is edited, too, and so can flicker."""


def add_edit_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    edit = kinds.add_parser(
        "edit", help="edits by a prompt: steps a second, and what hidden parts suffer", description=GOALS
    )
    edit.add_argument("avatar", metavar="AVATAR", help="an id of the library, or a NAME.avatar folder")
    edit.add_argument("--capture", default="demo_head", help="whose views are edited (default: %(default)s)")
    edit.add_argument("--prompt", default="bronze statue", help="default: %(default)s")
    edit.add_argument("--size", type=int, default=512, metavar="PX", help="default: %(default)s")
    edit.add_argument("--views", type=int, default=16, help="edited in each run (default: %(default)s)")
    edit.add_argument("--iterations", type=int, default=300, help="of each run (default: %(default)s)")
    edit.add_argument("--region", default="", help="of the template; what lies outside is measured too")
    edit.add_argument(
        "--disagreement",
        type=float,
        default=0.0,
        metavar="SHARE",
        help="tint every edited view by up to so much, as independent edits of diffusion models disagree",
    )
    edit.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="override of all runs")
    add_home(edit)
    add_device(edit)
    edit.add_argument("--output", type=Path, default=Path("edit_benchmark"), help="folder (default: %(default)s)")
    edit.set_defaults(run=benchmark_edit)


def benchmark_edit(arguments: argparse.Namespace) -> int:
    """Each variant edits the same views from the same seed; the mouth is not held, so that the blending shows."""
    device = prepare_device(arguments.device)
    library, avatar_id = avatar_place(arguments.avatar, open_home(arguments.home).library)
    folder = Library(library).path(avatar_id)
    rows: dict[str, dict[str, float]] = {}
    pictures: dict[str, NDArray[np.uint8]] = {}
    arguments.output.mkdir(parents=True, exist_ok=True)
    for name, values in (VARIANTS | (FLICKERING if arguments.disagreement else {})).items():
        rows[name], pictures[name] = measured(arguments, folder, device, values)
        (arguments.output / "edit.json").write_text(json.dumps(rows, indent=1), encoding="utf-8")
    side_by_side(pictures).save(arguments.output / "side_by_side.png")
    table = Table("variant", *(title for key, title in TITLES.items() if key in rows["ordinary"]))
    for name, numbers in rows.items():
        table.add_row(name, *(f"{numbers[key]:.3g}" for key in TITLES if key in numbers))
    Console().print(table)
    print(
        "hidden: mean change of colour of mouth and eyes; other: of the rest; edit dB: renders against edits that agree"
    )
    print(
        "flicker: of the edit between neighbouring views, place by place, and by how much areas differ more than before"
    )
    print("of edits: the excess of the edited pictures; outside dB: where nothing was to change")
    ratio = rows["ordinary"]["iterations_per_s"] / max(rows["wabe exact"]["iterations_per_s"], 1e-9)
    print(f"a step with weighted blending takes {ratio:.2f} x one without")
    print(GOALS)
    return 0


def measured(
    arguments: argparse.Namespace, folder: Path, device: str, values: dict[str, str]
) -> tuple[dict[str, float], NDArray[np.uint8]]:
    """One edit: its speed with all views edited before, what hidden and visible parts suffered, and what it shows."""
    import torch

    from avatars.text_edit.run import edit_config, run_of

    settings = {
        "prompt": arguments.prompt,
        "iterations": str(arguments.iterations),
        "region": arguments.region,
        "size_px": str(arguments.size),
        "schedule.sizes_px": f"[{arguments.size}]",
        "schedule.max_seconds": "0",
        "schedule.min_images": "0",
        "edit.max_edit_views": str(arguments.views),
        "edit.keep_mouth": "false",
        "edit.around_views": "0",
        "edit.edit_interval": "1000000",
        "edit.weights.mouth_l1": "0",
        "edit.weights.mouth_ssim": "0",
        **values,
        **overrides_of(arguments.set),
    }
    run = run_of(edit_config(settings), folder, arguments.capture, arguments.output / "run", device, lambda told: None)
    trainer: Any = run.trainer
    run.prepare()
    begun = time.perf_counter()
    trainer.edit_all()
    _wait(device)
    edit_s = (time.perf_counter() - begun) / arguments.views
    agreed = {key: trainer.cache.picture(key) for key in trainer.cache.entries}
    if arguments.disagreement:
        disagree(trainer, arguments.disagreement)
    seconds = timed_steps(run, arguments.iterations, lambda: _wait(device))
    found = {"iterations_per_s": arguments.iterations / seconds, "edit_s_a_view": edit_s}
    with torch.no_grad():
        return found | changes(trainer, agreed) | sequence_figures(trainer), shown(trainer)


def shown(trainer: EditTrainer) -> NDArray[np.uint8]:
    """[2 H, C W, 3]: some of the edited views, the pictures that were to be followed above the avatar that did."""
    from avatars.training.evaluation import as_uint8

    entries = sorted(trainer.cache.entries.items())
    columns = []
    for row in np.unique(np.linspace(0, len(entries) - 1, SHOWN).round().astype(int)).tolist():
        key, entry = entries[row]
        after = trainer.picture(trainer.batch([entry.row]))[0]
        columns.append(np.concatenate([as_uint8(part) for part in (trainer.cache.picture(key), after)]))
    return np.concatenate(columns, 1)


def side_by_side(pictures: Mapping[str, NDArray[np.uint8]]) -> Image.Image:
    """The edited views once, then a labelled row of renders for each variant."""
    first = next(iter(pictures.values()))
    half = first.shape[0] // 2
    rows = {"edits": first[:half]} | {name: picture[half:] for name, picture in pictures.items()}
    whole = Image.new("RGB", (first.shape[1], len(rows) * (half + LABEL_PX)), "white")
    for index, (name, row) in enumerate(rows.items()):
        whole.paste(Image.fromarray(row), (0, index * (half + LABEL_PX) + LABEL_PX))
        ImageDraw.Draw(whole).text((3, index * (half + LABEL_PX) + 1), name, fill="black")
    return whole


def timed_steps(run: Run, count: int, wait: Callable[[], None]) -> float:
    """Seconds of `count` steps after the first five."""
    for _ in range(5):
        run.step(run.at)
    wait()
    begun = time.perf_counter()
    for _ in range(count - 5):
        run.step(run.at)
    wait()
    return (time.perf_counter() - begun) * count / max(count - 5, 1)


def changes(trainer: EditTrainer, agreed: Mapping[tuple[int, int], Tensor]) -> dict[str, float]:
    """Mean change of colour of parts that are often hidden and of the rest, and how near renders are to edits.

    agreed: the edits [H, W, 3] before they were made to disagree.
    """
    import torch

    from avatars.training.metrics import psnr

    frames = torch.arange(1, device=trainer.device)
    before = trainer.original.pose(*(part[frames] for part in trainer.motion))
    after = trainer.editable.posed(frames)
    moved = (after.colours - before.colours)[0].abs().mean(-1)
    hidden = trainer.surface.region("mouth") + trainer.surface.region("eyes")
    rest = 1 - hidden
    errors = []
    for key, entry in sorted(trainer.cache.entries.items()):
        batch = trainer.batch([entry.row])
        errors.append(float(psnr(trainer.picture(batch).clamp(0, 1), agreed[key][None])))
    return {
        "hidden_change": float((moved * hidden).sum() / hidden.sum().clamp_min(1e-9)),
        "other_change": float((moved * rest).sum() / rest.sum().clamp_min(1e-9)),
        "edit_psnr_db": sum(errors) / max(len(errors), 1),
    }


def disagree(trainer: EditTrainer, most: float) -> None:
    """Multiply the person in each edited view by a colour of its own, up to `most` from white; the same every run."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for key, entry in sorted(trainer.cache.entries.items()):
        tint = 1 + most * (2 * torch.rand(3, generator=generator) - 1).to(trainer.device)
        alpha = trainer.render(trainer.batch([entry.row])).alpha[0, ..., None]
        picture = trainer.cache.picture(key)
        trainer.cache.put(key, entry.row, picture * (alpha * tint + 1 - alpha), entry.made)


def sequence_figures(trainer: EditTrainer) -> dict[str, float]:
    """Flicker of the edit over edited views in their order, and PSNR where nothing was to change.

    Neighbours differ in camera or instant; the same place on the person is compared (`edit_measures`).
    """
    import torch

    from avatars.evaluation.edit_measures import flicker, identity_outside
    from avatars.rendering.rasterise import rasterise
    from avatars.text_edit.maps import surface_maps

    before, after, edited, places, alphas, regions = [], [], [], [], [], []
    for key, entry in sorted(trainer.cache.entries.items())[:SEQUENCE]:
        batch = trainer.batch([entry.row])
        edited.append(trainer.cache.picture(key))
        unedited = trainer.unedited(batch)
        first = rasterise(unedited, batch.cameras, unedited.colours, background=batch.backgrounds)
        before.append(first.features.clamp(0, 1))
        after.append(trainer.picture(batch).clamp(0, 1))
        maps = surface_maps(unedited, batch.cameras, trainer.surface)
        places.append(maps.rest_position)
        alphas.append(maps.alpha)
        if trainer.region is not None:
            spread = trainer.region[None, :, None].contiguous()
            regions.append(rasterise(unedited, batch.cameras, spread).features)
    old, new, place, alpha = (torch.cat(parts) for parts in (before, after, places, alphas))
    now, edits = flicker(new, old, place, alpha), flicker(torch.stack(edited), old, place, alpha)
    found = {"flicker": now.difference, "flicker_excess": now.excess, "edits_excess": edits.excess}
    if regions:
        found["outside_psnr_db"] = identity_outside(old, new, torch.cat(regions), alpha).psnr_db
    return found


def _wait(device: str) -> None:
    import torch

    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
