"""Open a capture by name or folder, whichever of the known layouts it has."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

from avatars.captures.body_files import LAYOUTS as BODY_LAYOUTS
from avatars.captures.body_sets import is_body_set, read_body_set
from avatars.captures.capture import Capture
from avatars.captures.effigy_format import DESCRIPTION, read_effigy_capture
from avatars.captures.embedded import DATA, embedded_captures
from avatars.captures.insta import is_insta, read_insta
from avatars.captures.mocap import is_monocap, is_zju, read_monocap, read_zju
from avatars.captures.nersemble import is_nersemble, read_nersemble
from avatars.captures.peoplesnapshot import is_peoplesnapshot, read_peoplesnapshot
from avatars.captures.peoplesnapshot_raw import is_raw_peoplesnapshot, refuse_raw
from avatars.captures.rana import is_rana, read_rana
from avatars.captures.selfrecon import is_selfrecon, read_selfrecon
from avatars.captures.units import check_distances
from avatars.skinning.clothed import find_clothed_template
from shared.errors import BadCapture, EffigyError, nearest


@dataclass(frozen=True)
class Layout:
    """One way a recording lies on disk. signs: what makes a folder one, in words."""

    title: str
    signs: str
    fits: Callable[[Path], bool]
    read: Callable[[Path], Capture]


LAYOUTS: Mapping[str, Layout] = MappingProxyType(
    {
        "effigy": Layout(
            "Effigy capture", DESCRIPTION, lambda folder: (folder / DESCRIPTION).is_file(), read_effigy_capture
        ),
        "insta": Layout(
            "INSTA folder with metrical-tracker frames", "images/ and checkpoint/*.frame", is_insta, read_insta
        ),
        "nersemble": Layout(
            "VHAP export for GaussianAvatars (NeRSemble)",
            "transforms_train.json with canonical_flame_param.npz or flame_param/",
            is_nersemble,
            read_nersemble,
        ),
        "rana": Layout("RANA subject", "cameras.json, poses.npz and albedos/", is_rana, read_rana),
        "peoplesnapshot": Layout(
            "PeopleSnapshot (InstantAvatar)", "cameras.npz and poses.npz", is_peoplesnapshot, read_peoplesnapshot
        ),
        "peoplesnapshot_raw": Layout(
            "PeopleSnapshot as downloaded",
            "camera.pkl and reconstructed_poses.hdf5",
            is_raw_peoplesnapshot,
            refuse_raw,
        ),
        "selfrecon": Layout("SelfRecon synthetic", "camera.npz, smpl_rec.npz and imgs/", is_selfrecon, read_selfrecon),
        "monocap": Layout("MonoCap", "annots.npy and images/", is_monocap, read_monocap),
        "zju": Layout("ZJU-MoCap", "annots.npy and new_params/ or params/", is_zju, read_zju),
        **{
            key: Layout(f"{one.title} folder", one.calibration, partial(is_body_set, key), read_body_set)
            for key, one in BODY_LAYOUTS.items()
        },
    }
)


def layout_of(folder: Path) -> str:
    """The key in `LAYOUTS` of a folder, '' for none."""
    return next((name for name, layout in LAYOUTS.items() if layout.fits(folder)), "")


def open_capture(name_or_folder: str | Path) -> Capture:
    """A capture that ships with the project, by name, or any other by its folder. Raises BadCapture.

    The folder may have any layout of `LAYOUTS`; the capture's notes say what was found.
    """
    text = str(name_or_folder)
    embedded = embedded_captures()
    if text in embedded:
        return read_effigy_capture(DATA / text)
    folder = Path(name_or_folder).expanduser()
    if not folder.is_dir():
        raise BadCapture(
            f"there is no capture {text!r}{nearest(text, embedded)}",
            expected="a folder, or one of: " + (", ".join(embedded) or "(none embedded)"),
        )
    layout = layout_of(folder)
    if layout:
        return _read(folder, LAYOUTS[layout])
    raise BadCapture(f"there is no capture in {folder}", found=_almost(folder), expected=_signs(), do="Check the path")


def _read(folder: Path, layout: Layout) -> Capture:
    try:
        found = _clothed(folder, layout.read(folder))
        check_distances(found)
        return found
    except BadCapture:
        raise
    except OSError as error:
        raise BadCapture(
            f"{error.filename or folder} cannot be read", found=error.strerror or str(error), do="Check its permissions"
        ) from error
    except EffigyError as error:  # of a template, a camera or a motion that the files lead to
        raise BadCapture(
            f"capture {folder.name} does not fit: {error.what}", found=error.found, expected=error.expected, do=error.do
        ) from error


def _clothed(folder: Path, capture: Capture) -> Capture:
    """The same with the template.ply that lies in a body's folder, where the reader has not looked for it."""
    if capture.kind != "body" or capture.clothed_template is not None:
        return capture
    found = find_clothed_template((folder,))
    if found is None:
        return capture
    return replace(capture, clothed_template=found, notes=(*capture.notes, f"Clothed template {found.name}"))


def _signs() -> str:
    return ", or ".join(layout.signs for layout in LAYOUTS.values())


def _almost(folder: Path) -> str:
    """What a folder that is no capture looks like."""
    if (folder / "checkpoint").is_dir():
        return "the tracker's checkpoint/ but no images/ (run INSTA's generate.sh on it)"
    if (folder / "images").is_dir() and (folder / "transforms.json").is_file():
        return "an INSTA folder without the tracker's checkpoint/ (copy it there)"
    if (folder / "images").is_dir():
        return "pictures without anything that says where the head is (track them first)"
    inner = sorted(path.name for path in folder.iterdir() if path.is_dir() and layout_of(path))
    return f"a folder of captures: {', '.join(inner[:3])}" if inner else ""
