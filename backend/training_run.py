"""One training run from request to library, the same for the train worker and for `train --local`."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from backend.library import Library, check_name
from shared.errors import BadConfig, EnvironmentFailed
from shared.messages import StartTraining

if TYPE_CHECKING:
    from avatars.captures.capture import Capture
    from avatars.training.config import TrainConfig
    from avatars.training.progress import TrainResult

RESULT, RESULT_BYTES = "result.json", 4096
MOST_GPUS = 64


@dataclass(frozen=True)
class Outcome:
    """How a run ended. state: done, paused or cancelled. avatar_id and report_folder are empty unless it is done."""

    state: str
    avatar_id: str = ""
    report_folder: str = ""
    metrics: Mapping[str, float] | None = None


def check_training(asked: StartTraining) -> None:
    """Raises BadConfig, BadCapture: the sentence a user should read now, not when the job's turn comes."""
    check_number(asked.gpus)
    from avatars.captures.opening import open_capture
    from avatars.training.config import EDIT, TEACHER, load_config
    from avatars.training.tensorboard import check_tensorboard

    check_name(asked.name)
    config = load_config(asked.preset, asked.overrides)
    if config.method == TEACHER:
        raise BadConfig(
            f"preset {asked.preset!r} trains a teacher, which is no avatar yet",
            do="Use it with: effigy relight teacher",
        )
    if config.method == EDIT:
        raise BadConfig(f"preset {asked.preset!r} edits an avatar that is there", do="Use it with: effigy edit")
    if config.reporting.tensorboard:
        check_tensorboard()
    open_capture(asked.capture)


def check_number(gpus: int) -> None:
    """Raises BadConfig for a number of GPUs that makes no sense."""
    if not 1 <= gpus <= MOST_GPUS:
        raise BadConfig("The number of GPUs makes no sense", found=str(gpus), expected=f"1 to {MOST_GPUS}")


def finished_run(folder: Path, library: Library) -> Outcome | None:
    """What an earlier run in this folder made, where its avatar is still in the library."""
    try:
        data = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        avatar_id = str(data["avatar_id"])
        if avatar_id in library.ids():
            return Outcome("done", avatar_id, str(data["report_folder"]), dict(data["metrics"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return None


def run_training(
    asked: StartTraining,
    folder: Path,
    library: Library,
    device: str,
    on_event: Callable[[Any], None],
    wanted: Callable[[], str],
) -> Outcome:
    """Train (or go on from the folder's checkpoints) and move the avatar into the library.

    On several GPUs where asked.gpus says so, in processes of their own. on_event: called with avatars.training's
    Progress. wanted: '', 'pause' or 'cancel', asked between steps.
    """
    from avatars.training.config import load_config

    check_training(asked)
    earlier = finished_run(folder, library)
    if earlier is not None:
        return earlier
    config, heard = load_config(asked.preset, asked.overrides), Heard(on_event)
    return adopted(
        lambda: trained(
            config,
            asked.capture,
            folder,
            name=asked.name,
            device=device,
            on_event=heard,
            wanted=wanted,
            gpus=asked.gpus,
        ),
        folder,
        library,
        asked.name,
        heard.say,
        wanted,
    )


def trained(
    config: TrainConfig,
    place: str,
    folder: Path,
    *,
    name: str,
    device: str,
    on_event: Callable[[Any], None],
    wanted: Callable[[], str],
    gpus: int = 1,
    capture: Capture | None = None,
) -> TrainResult:
    """avatars.training.loop.train, here or on several GPUs in processes of their own.

    place: the capture's name or folder. capture: what is there, where it has been opened already.
    """
    from avatars.captures.opening import open_capture
    from avatars.training.loop import train

    if gpus == 1:
        capture = open_capture(place) if capture is None else capture
        return train(config, capture, folder, name=name, device=device, on_event=on_event, wanted=wanted)
    from backend.on_gpus import run_on_gpus
    from backend.rank_orders import training_order

    return run_on_gpus(training_order(config, place, name), gpus, folder, device, on_event, wanted)


class Heard:
    """Passes a run's progress on; after its end it can say more with the numbers that were told last."""

    def __init__(self, on_event: Callable[[Any], None]) -> None:
        self._on_event, self._last = on_event, None

    def __call__(self, progress: Any) -> None:
        """Pass it on."""
        self._last = progress
        self._on_event(progress)

    def say(self, message: str) -> None:
        """Tell this, where anything was told before."""
        if self._last is not None:
            self._on_event(replace(self._last, message=message, preview=None))


def adopted(
    run: Callable[[], TrainResult],
    folder: Path,
    library: Library,
    name: str,
    tell: Callable[[str], None],
    wanted: Callable[[], str],
) -> Outcome:
    """What came of `run`, a training in `folder`; the avatar that it made goes into the library when there is room.

    Raises EnvironmentFailed where the disk refuses for another reason, and what `run` does.
    """
    from avatars.files import write_atomically
    from avatars.training.loop import CHECKPOINTS
    from avatars.training.room import save_when_there_is_room

    try:
        folder.mkdir(parents=True, exist_ok=True)
        result = run()
        if result.state != "done":
            return Outcome(result.state)
        metrics = {k: float(v) for k, v in result.metrics.items() if isinstance(v, int | float) and math.isfinite(v)}
        avatar_id, stopped = into_library(Path(result.avatar_folder), library, name, tell, wanted)
        if stopped:
            return Outcome({"pause": "paused", "cancel": "cancelled"}[stopped])
        outcome = Outcome("done", avatar_id, str(result.report_folder), metrics)
        document = {"avatar_id": avatar_id, "report_folder": outcome.report_folder, "metrics": metrics}
        content = json.dumps(document).encode()
        if not save_when_there_is_room(
            lambda: write_atomically(folder / RESULT, content), folder, RESULT_BYTES, tell, wanted, "what came of it"
        ):
            shutil.rmtree(folder / CHECKPOINTS, ignore_errors=True)  # large, and of no use to a job that is known done
    except OSError as error:
        raise EnvironmentFailed(
            "The disk refused", found=f"{error.filename or folder}: {error.strerror}", do="Make room and resume the job"
        ) from error
    return outcome


def into_library(
    made: Path, library: Library, name: str, tell: Callable[[str], None], wanted: Callable[[], str]
) -> tuple[str, str]:
    """Move a finished avatar into the library, when its disk has room: the new id and '', or '' and the 'pause' or
    'cancel' that came meanwhile; `made` stays where it is then. Raises EnvironmentFailed for another reason."""
    from avatars.training.room import is_full, save_when_there_is_room

    found: list[str] = []
    stopped = save_when_there_is_room(
        lambda: found.append(library.adopt(made, name)),
        library.folder,
        RESULT_BYTES,
        tell,
        wanted,
        "the finished avatar",
        mends=is_full,
    )
    return ("", stopped) if stopped else (found[0], "")
