"""The result folder of RGBAvatar's commands, <output_dir>/<subject>/<work_name>, and what Effigy puts into it."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from backend.library import SUFFIX
from shared.errors import BadAvatar, BadConfig, BadTemplate, EnvironmentFailed, NotFound
from shared.file_names import problem_with

CONFIG, PRESET, SETTINGS, MODEL = "config.yaml", "preset.yaml", "settings.json", "model.ply"
LONGEST_NAME = 120
WORK_NAME_FORMAT = "%Y-%m-%d_%H-%M-%S"


@dataclass(frozen=True)
class ResultFolder:
    """Where one training of one subject goes. data: the subject's capture, <data_dir>/<subject>."""

    path: Path
    subject: str
    data: Path

    @property
    def avatar(self) -> Path:
        """The avatar's folder."""
        return self.path / f"{self.subject}{SUFFIX}"


def result_folder(data_dir: str, output_dir: str, subject: str, work_name: str | None) -> ResultFolder:
    """The folder of these names; without a work_name one of now. Raises BadConfig for names that lead elsewhere."""
    work_name = work_name or datetime.now().strftime(WORK_NAME_FORMAT)
    for option, name in (("--subject", subject), ("--work_name", work_name)):
        problem = problem_with(name, LONGEST_NAME)
        if problem:
            raise BadConfig(f"{option} is no name of a folder: it {problem}", found=repr(name[:80]))
    data = Path(data_dir).expanduser() / subject
    return ResultFolder(Path(output_dir).expanduser() / subject / work_name, subject, data)


def train_into(
    result: ResultFolder,
    preset: str,
    overrides: dict[str, str],
    device: str,
    on_event: Callable[[Any], None],
    wanted: Callable[[], str],
    *,
    resume: bool = False,
    gpus: int = 1,
) -> tuple[str, list[str]]:
    """Train the subject's capture into its result folder; returns 'done', 'paused' or 'cancelled', and what to say.

    What an earlier run left there is deleted first, as the original does, but only once configuration and capture were
    read; resume keeps it and goes on. gpus: of these together. Leaves SUBJECT.avatar, report/, settings.json (every
    value as it was used), and config.yaml with model.ply as RGBAvatar reads them: a copy of its own configuration
    where that was given; else that is preset.yaml. Raises BadConfig, BadCapture, BadTemplate, EnvironmentFailed.
    """
    from avatars.captures.opening import open_capture
    from avatars.training.config import config_file, load_config, original_config
    from avatars.training.loop import CHECKPOINTS
    from avatars.training.tensorboard import check_tensorboard
    from backend.on_gpus import check_gpus
    from backend.training_run import trained

    check_gpus(gpus, device)
    config, source = load_config(preset, overrides), config_file(preset)
    if config.reporting.tensorboard:
        check_tensorboard()
    capture = open_capture(result.data)
    content = source.read_bytes()  # before anything is deleted: it may lie in the folder itself
    copied = CONFIG if original_config(preset) is not None else PRESET
    settings = {"subject": result.subject, "capture": str(result.data)}
    try:
        if result.path.exists() and not resume:
            delete_result(result.path)
        result.path.mkdir(parents=True, exist_ok=True)
        (result.path / copied).write_bytes(content)
        document = settings | {"config": dataclasses.asdict(config)}
        (result.path / SETTINGS).write_text(json.dumps(document, indent=1), encoding="utf-8")
    except OSError as error:
        raise EnvironmentFailed(
            "The result folder cannot be written",
            found=f"{error.filename or result.path}: {error.strerror}",
            do="Choose another output_dir",
        ) from error
    ended = trained(
        config,
        str(result.data),
        result.path,
        name=result.subject,
        device=device,
        on_event=on_event,
        wanted=wanted,
        gpus=gpus,
        capture=capture,
    )
    if ended.state != "done":
        return ended.state, []
    shutil.rmtree(result.path / CHECKPOINTS, ignore_errors=True)
    return ended.state, write_as_rgbavatar(result)


def write_as_rgbavatar(result: ResultFolder) -> list[str]:
    """model.ply, whose head it is, and config.yaml where there is none; what could not go along, in sentences."""
    from avatars.avatar_folder import load_avatar
    from avatars.formats.exporting import export_rgbavatar_folder

    beside = result.path / ".rgbavatar"
    shutil.rmtree(beside, ignore_errors=True)
    try:
        notes = export_rgbavatar_folder(load_avatar(result.avatar), beside)
        for file in beside.iterdir():
            if file.name != CONFIG or not (result.path / CONFIG).is_file():
                file.replace(result.path / file.name)
        return notes
    except (BadAvatar, BadTemplate) as error:  # a head that is not FLAME's has no such file
        return [f"{MODEL} was not written: {error}"]
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def finished_result(output_dir: str, subject: str, work_name: str) -> ResultFolder:
    """A folder that `train_into` or the original left. Raises NotFound, BadConfig."""
    from avatars.training.config import original_config

    result = result_folder("", output_dir, subject, work_name)
    if not result.path.is_dir():
        known = sorted(path.name for path in result.path.parent.glob("*") if path.is_dir())
        raise NotFound(
            f"There is no result {work_name!r} of {subject!r}",
            found=f"no folder {result.path}",
            expected=", ".join(known[:5]),
        )
    data = Path("data") / subject
    if (result.path / SETTINGS).is_file():
        try:
            data = Path(json.loads((result.path / SETTINGS).read_text(encoding="utf-8"))["capture"])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadConfig(f"{SETTINGS} of {result.path} is damaged", found=str(error)) from error
    elif (result.path / CONFIG).is_file():
        original = original_config(str(result.path / CONFIG))
        data = Path(original.data_dir if original is not None else "data").expanduser() / subject
    return ResultFolder(result.path, subject, data)


def delete_result(folder: Path) -> None:
    """Delete an earlier result. Raises BadConfig where the folder holds something that no training left."""
    if any(folder.iterdir()) and not any((folder / name).exists() for name in (CONFIG, SETTINGS, MODEL)):
        raise BadConfig(
            f"{folder} holds something that is no result of a training, so it is not deleted",
            expected=f"a folder with {CONFIG}",
            do="Choose another --work_name",
        )
    shutil.rmtree(folder)
