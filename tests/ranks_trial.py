"""A few steps of each method, by one process or by several that torchrun started: the same code, the same global batch.

`python -m tests.ranks_trial FOLDER CASE…` leaves CASE.safetensors in the folder: parameters and Adam's moments after
the first step and after all, and what else the method keeps. Captures are read from the folder's `captures`.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

from avatars.captures.opening import open_capture
from avatars.training import ranks
from avatars.training.config import load_config
from avatars.training.loop import Run

STEPS = 3


@dataclass(frozen=True)
class Case:
    """A method's tiny course. capture: a folder of the trial's captures, or the name of an embedded one."""

    preset: str
    capture: str
    overrides: dict[str, str]


CASES = {
    "rgb_head": Case("tiny", "head", {"schedule.batch": "3", "schedule.deltas_from": "3", "losses.theta_noise": "0.1"}),
    "mlp_body": Case("mlp_body_tiny", "body", {"schedule.batch": "4", "schedule.deltas_from": "0"}),
}


def learn(name: str, folder: Path, place: Path) -> dict[str, Tensor]:
    """What a run of a case knows after one step (named first.…) and after STEPS."""
    case = CASES[name]
    own = folder / "captures" / case.capture
    quiet = {"reporting.curve_points": "0", "reporting.preview_s": "1000", "reporting.checkpoint_images": "0"}
    config = load_config(case.preset, quiet | {"schedule.images": "24"} | case.overrides)
    run = Run(config, open_capture(own if own.is_dir() else case.capture), place, "cpu", lambda told: None)
    run.prepare()
    found: dict[str, Tensor] = {}
    for step in range(STEPS):
        at, _ = run.order(str)
        run.step(at)
        if step == 0:
            found = {f"first.{key}": value.detach().clone() for key, value in run.optimiser.state().items()}
    found |= {key: value.detach().clone() for key, value in run.optimiser.state().items()}
    return found | {f"kept.{key}": value.detach().clone() for key, value in run.trainer.state().items()}


def main() -> int:
    """All cases that are asked for, one after the other."""
    torch.set_num_threads(1)
    folder, names = Path(sys.argv[1]), sys.argv[2:]
    ranks.join(torch.device("cpu"))
    for name in names:
        found = learn(name, folder, folder / f"several_{name}")
        mine = {key: value.contiguous() for key, value in found.items()}
        save_file(mine, str(folder / f"{name}.{ranks.rank()}.safetensors"))
    ranks.leave()
    return 0


if __name__ == "__main__":
    sys.exit(main())
