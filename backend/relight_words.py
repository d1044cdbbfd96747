"""The words of DNF-Avatar's own launcher (`launch_ps.py a.b=c group/option=name +key=value`) as options of ours.

Only the first `=` of a word separates, so values may hold others (checkpoints are called epoch=219-step=25000.ckpt);
the escaped form `\\=` means the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from shared.errors import BadConfig, nearest

WORDS: Mapping[str, str] = MappingProxyType(
    {
        "training_mode": "mode",
        "gs_type": "gs_type",
        "implicit_branch.mode": "pass",
        "implicit_branch/dataset": "capture",
        "implicit_branch.tag": "name",
        "implicit_branch.resume": "teacher",
        "implicit_branch.trainer.max_steps": "steps",
        "implicit_branch.seed": "seed",
        "explicit_branch.mode": "pass",
        "explicit_branch/dataset": "capture",
        "explicit_branch/distill_dataset": "pseudo_truth",
        "explicit_branch.load_ckpt": "avatar",
        "explicit_branch.hdri": "hdri",
        "hdri": "hdri",
        "explicit_branch.tag": "name",
        "explicit_branch.seed": "seed",
    }
)
"""The original's word -> what it is here. Words our methods have no use for are errors that name the nearest."""
MODES = ("teacher", "distill", "student", "joint")


@dataclass(frozen=True)
class Asked:
    """What the words say. values: our names -> texts; mode: training_mode, '' where it was not given."""

    values: Mapping[str, str]
    mode: str = ""


def read_words(words: Sequence[str], known: Sequence[str]) -> Asked:
    """The words as `known` options. Raises BadConfig for words that are none, and for options that do not belong here.

    >>> dict(read_words(["implicit_branch.resume=a/epoch=219-step=25000.ckpt"], ["teacher"]).values)
    {'teacher': 'a/epoch=219-step=25000.ckpt'}
    """
    found: dict[str, str] = {}
    for word in words:
        key, separator, value = word.partition("=")
        key, value = key.lstrip("+").rstrip("\\"), value.replace("\\=", "=")
        if not separator:
            raise BadConfig(f"{word!r} is no setting", expected="KEY=VALUE")
        option = WORDS.get(key)
        if option is None:
            raise BadConfig(f"there is no setting {key!r}{nearest(key, WORDS)}", expected=", ".join(WORDS))
        if option not in (*known, "mode", "gs_type", "pass"):
            raise BadConfig(f"{key} does not belong to this command", found=word)
        if option in found and found[option] != value:
            raise BadConfig(f"{key} is given twice", found=f"{found[option]} and {value}")
        found[option] = value
    mode = found.pop("mode", "")
    if mode and mode not in MODES:
        raise BadConfig(f"training_mode cannot be {mode!r}{nearest(mode, MODES)}", expected=", ".join(MODES))
    if found.pop("gs_type", "2dgs") != "2dgs":
        raise BadConfig("gs_type 3dgs is not offered", expected="2dgs", do="Leave it out")
    found.pop("pass", None)
    return Asked(MappingProxyType(found), mode)


def split_words(words: Sequence[str]) -> tuple[list[str], str]:
    """Settings, and the one word that is none ('' without), which names an avatar.

    A path that is there is no setting, whatever signs are in it. Raises BadConfig for more than one.
    """
    loose = [word for word in words if "=" not in word or Path(word).expanduser().exists()]
    if len(loose) > 1:
        raise BadConfig("several avatars are named", found=", ".join(loose[:3]), expected="one")
    return [word for word in words if word not in loose], loose[0] if loose else ""


def capture_folder(text: str, data: Path) -> str:
    """A capture by folder or embedded name; the original's `peoplesnapshot/male-3-casual` lies below `data`."""
    for place in (Path(text).expanduser(), data.expanduser() / text):
        if place.is_dir():
            return str(place)
    return text


def teacher_folder(text: str) -> Path:
    """A teacher's folder; a path to something inside it (a checkpoint's name) means the folder."""
    path = Path(text).expanduser()
    for place in (path, *path.parents):
        if place.suffix == ".teacher":
            return place
    return path
