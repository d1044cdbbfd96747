"""Messages about the backend itself, its library and the errands it does for a client (check, import, export).

Part of the protocol like those of `shared.messages`, which lists them; see there for what a field may be.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]


# --- the backend itself -----------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class GetStatus:
    """Ask how the backend is."""


@dataclass(frozen=True, eq=False)
class Status:
    """Answer to GetStatus.

    memory: of the device that renders (a GPU's own, else the machine's), 0 of 0 while it starts. renders_waiting and
    jobs_waiting: what queues for it; jobs_running: trainings, live trainings and errands under way. refused: messages
    that were refused since the start, by the code of the reason. tracker: why faces cannot be tracked yet, empty where
    they can. render_workers: how many pictures it can be at, at the same time, 0 while it starts.
    """

    device: str
    rasteriser: str
    memory_used_bytes: int
    memory_total_bytes: int
    renders_waiting: int
    jobs_waiting: int
    jobs_running: int
    up_s: float
    data_folder: str
    refused: dict[str, int] = field(default_factory=dict)
    tracker: str = ""
    render_workers: int = 0


@dataclass(frozen=True, eq=False)
class Memory:
    """What a worker tells of its device's memory from time to time."""

    used_bytes: int
    total_bytes: int


@dataclass(frozen=True, eq=False)
class GetLog:
    """Ask for the end of the backend's logs. job_id: of this job's worker, empty: of server and render worker."""

    job_id: str = ""


@dataclass(frozen=True, eq=False)
class LogText:
    """Answer to GetLog, newest line last."""

    text: str


# --- library ----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class GetAvatarInfo:
    """Ask for what the library shows of an avatar; answered without loading it."""

    avatar_id: str


@dataclass(frozen=True, eq=False)
class AvatarInfo:
    """Answer to GetAvatarInfo. digest: as in AvatarSummary.

    facts: 'Method' -> 'RGBAvatar head', in the order to be shown in: quality, coverage, licence, consent, provenance.
    preview: [H, W, 4] uint8 sRGB straight alpha, at most 256 px a side; [0, 0, 4] where it cannot be read.
    """

    avatar_id: str
    digest: str
    facts: dict[str, str]
    preview: Array


@dataclass(frozen=True, eq=False)
class ChangeAvatar:
    """Ask to 'rename' an avatar (to `name`), to 'trash' it, to 'restore' it from there, or to 'purge' it for good.

    avatar_id: of the library; of the trash for restore and purge. Answered by Done, whose detail is the avatar's id
    afterwards.
    """

    avatar_id: str
    action: str
    name: str = ""


@dataclass(frozen=True, eq=False)
class ListTrash:
    """Ask for the avatars in the trash, newest first. Answered by AvatarList; `created` is when it was thrown away."""


# --- errands: jobs of kind 'check', 'import' and 'export' ------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Finding:
    """One thing that was looked at. state: 'ok', 'doubtful' or 'bad'; do: what to do about it."""

    name: str
    state: str
    found: str
    do: str = ""


@dataclass(frozen=True, eq=False)
class StartCheck:
    """Ask whether a capture (a name, or a folder on the backend's machine) is fit to train on; answered by its JobInfo.

    The job ends with `findings` and with the template laid over some pictures as its preview. frames: pictures looked
    at. fix: write the reading that fits into the folder's options.
    """

    key: str
    capture: str
    frames: int = 8
    fix: bool = False


@dataclass(frozen=True, eq=False)
class StartImport:
    """Ask to take an avatar into the library: a NAME.avatar folder, or RGBAvatar's or GaussianAvatars' file or folder.

    Paths are of the backend's machine. person: whose head it is (flame_param.npz or .frame); mean_shape does without.
    template: id of an added FLAME, empty chooses. Answered by a JobInfo, which names the avatar when it is done.
    """

    key: str
    source: str
    name: str = ""
    config: str = ""
    person: str = ""
    template: str = ""
    mean_shape: bool = False
    licence: str = ""
    consent: str = ""


@dataclass(frozen=True, eq=False)
class StartExport:
    """Ask to write an avatar, or posed frames of it, to `output` on the backend's machine; answered by its JobInfo.

    format: 'ply' and 'spz' write posed splats, one file, or with `sequence` one file a frame into a folder; 'avatar',
    'rgbavatar' and 'gaussian-avatars' a folder with the whole avatar, 'mesh' one with a rigged mesh. digest pins its
    content, empty accepts any. rotations: [T, J, 3] rad; translations: [T, 3] m; expressions: [T, E]; T = 0 is the pose
    of the capture.
    """

    key: str
    avatar_id: str
    digest: str
    format: str
    output: str
    rotations: Array
    translations: Array
    expressions: Array
    fps: float = 25.0
    sequence: bool = False
    axes: str = "z-up"
    template: str = ""
    half_deltas: bool = False


# --- training ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class GetJobCurve:
    """Ask how a job's numbers went since this server saw it begin."""

    job_id: str


@dataclass(frozen=True, eq=False)
class JobCurve:
    """Answer to GetJobCurve. steps: [N] int64, rising; values: [N, K] float32, NaN where a number was not told."""

    job_id: str
    names: tuple[str, ...]
    steps: Array
    values: Array


DESK_MESSAGES = (
    GetStatus,
    Status,
    Memory,
    GetLog,
    LogText,
    GetAvatarInfo,
    AvatarInfo,
    ChangeAvatar,
    ListTrash,
    Finding,
    StartCheck,
    StartImport,
    StartExport,
    GetJobCurve,
    JobCurve,
)
"""In the order `shared.messages` lists them."""
