"""A few steps of each method, by one process or by several that torchrun started: the same code, the same global batch.

`python -m tests.ranks_trial FOLDER CASE…` leaves CASE.safetensors in the folder: parameters and Adam's moments after
the first step and after all, and what else the method keeps. Captures are read from the folder's `captures`. Then
whole orders are obeyed, NAME.json of the folder's `orders`; NAME.said is what was told of them.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import torch
from safetensors.torch import save_file
from torch import Tensor

from avatars.captures.opening import open_capture
from avatars.relit_head.model import RelitHead
from avatars.surface_body import trainer as surface_trainer
from avatars.text_edit import editors
from avatars.text_edit.run import edit_config, run_of
from avatars.training import ranks
from avatars.training.config import load_config
from avatars.training.loop import Run
from backend.rank_orders import Order, obey
from tests.avatars.relit_files import painted_capture
from tests.avatars.relit_head.files import lit_capture, side_light
from tests.tiny import tiny_avatar, tiny_capture, tiny_head
from tests.tiny_body import tiny_body_capture

STEPS = 3


@dataclass(frozen=True)
class Case:
    """A method's tiny course. capture: a folder of the trial's captures."""

    preset: str
    capture: str
    overrides: dict[str, str]


CASES = {
    "rgb_head": Case("tiny", "head", {"schedule.batch": "3", "schedule.deltas_from": "3", "losses.theta_noise": "0.1"}),
    "mlp_body": Case("mlp_body_tiny", "body", {"schedule.batch": "4", "schedule.deltas_from": "0"}),
    "relit_head": Case("relit_head_tiny", "lit", {"schedule.batch": "3"}),
    "relit_body": Case(
        "relit_body_tiny",
        "painted",
        {"relit.surfels": "300", "relit.spare": "80", "relit.further": "2", "relit.densify_at": "[0.1]"},
    ),
    "relit_teacher": Case(
        "relit_teacher_tiny",
        "body",
        {"schedule.batch": "2", "teacher.light.starts_at": "0", "teacher.march.fine_from": "0"},
    ),
    "surface_body": Case(
        "surface_tiny",
        "body",
        {
            "schedule.images": "6",
            "surface.stages.volume": "0.3",
            "surface.stages.mesh": "0.3",
            "surface.sampling.rays": "96",
            "surface.resolution": "40",
            "surface.faces": "1500",
            "surface.gaussians.count": "300",
            "surface.paint_steps": "10",
            "surface.star.base_spacing_m": "0.04",
            "surface.deformation.cells": "20",
            "surface.deformation.guide": "16",
            "surface.deformation.guide_vertices": "300",
        },
    ),
    "surface_parity": Case(
        "surface_parity_tiny",
        "body",
        {
            "surface.star.base_spacing_m": "0.04",
            "surface.deformation.cells": "20",
            "surface.deformation.guide": "16",
            "surface.deformation.guide_vertices": "300",
            "surface.planes.sides": "[16]",
            "surface.parity.networks.skin_fit": "20",
            "surface.parity.sampling.patches": "1",
            "surface.parity.sampling.patch_px": "12",
            "surface.parity.sampling.samples": "8",
        },
    ),
    "text_edit": Case("edit_cpu", "", {}),
}
EDIT = {
    "schedule.batch": "2",
    "size_px": "48",
    "schedule.sizes_px": "[48]",
    "edit.max_edit_views": "6",
    "edit.instants": "3",
    "edit.orbit_cameras": "3",
    "edit.adversarial": "true",
    "edit.adversarial_from": "0",
    "edit.adversary_warm_up": "1",
}


def prepare(folder: Path) -> None:
    """Make the captures of all cases, and the avatar that is edited."""
    captures = folder / "captures"
    captures.mkdir(parents=True)
    tiny_capture(captures / "head", size=48, frames=5, cameras=3, gaussians=500)
    tiny_body_capture(captures / "body", frames=3)
    seen = RelitHead(tiny_head(500)).requires_grad_(False)  # without what hides the sky, which takes long to find
    lit_capture(captures / "lit", [side_light(1)], model=seen)
    (captures / "painted").mkdir()
    painted_capture(captures / "painted", 48)
    tiny_avatar(folder / "avatar", gaussians=500)


def _edited(folder: Path, place: Path, quiet: dict[str, str]) -> Run:
    """An edit whose editor is a stand-in."""
    (avatar,) = folder.glob("avatar/*.avatar")
    values = {"prompt": "red", "editor": "redder", "seed": "1", **quiet, **EDIT}
    return run_of(edit_config(values, "edit_cpu"), avatar, "", place, "cpu", lambda told: None)


def learn(name: str, folder: Path, place: Path) -> dict[str, Tensor]:
    """What a run of a case knows after one step (named first.…) and after STEPS."""
    with (
        mock.patch.object(editors, "TABLE", {"redder": "tests.avatars.text_edit.redder:make_redder"}),
        mock.patch.object(editors, "check_prompt", return_value=None),
        mock.patch.object(surface_trainer, "check_reach", return_value=None),  # the tiny person fits no template
    ):
        return _learn(name, folder, place)


def _learn(name: str, folder: Path, place: Path) -> dict[str, Tensor]:
    case = CASES[name]
    own = folder / "captures" / case.capture
    quiet = {"reporting.curve_points": "0", "reporting.preview_s": "1000", "reporting.checkpoint_images": "0"}
    config = load_config(case.preset, quiet | {"schedule.images": "24"} | case.overrides)
    if name == "text_edit":
        run = _edited(folder, place, quiet)
    else:
        run = Run(config, open_capture(own), place, "cpu", lambda told: None)
    run.prepare()
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        at, _ = run.order(str)
        run.step(at)
        if step == 0:
            found = {f"first.{key}": value.detach().clone() for key, value in run.optimiser.state().items()}
    found |= {key: value.detach().clone() for key, value in run.optimiser.state().items()}
    return found | {f"kept.{key}": value.detach().clone() for key, value in run.trainer.state().items()}


def obey_orders(folder: Path) -> None:
    """All orders in the folder, each to its end in obeyed/NAME."""
    for file in sorted((folder / "orders").glob("*.json")):
        said: list[str] = []
        place = folder / "obeyed" / file.stem
        order = Order(**json.loads(file.read_text(encoding="utf-8")))
        obey(order, place, "cpu", lambda told, said=said: said.append(told.message), str)
        if ranks.rank() == 0:
            file.with_suffix(".said").write_text(json.dumps(said), encoding="utf-8")


def main() -> int:
    """All cases that are asked for, one after the other, and all orders."""
    torch.set_num_threads(1)
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    ranks.join(torch.device("cpu"))
    for name in names:
        found = learn(name, folder, folder / f"several_{name}")
        mine = {key: value.contiguous() for key, value in found.items()}
        save_file(mine, str(folder / f"{name}.{ranks.rank()}.safetensors"))
    obey_orders(folder)
    ranks.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
