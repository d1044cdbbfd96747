"""Every message of the protocol, one frozen dataclass each, and the table of names the wire uses.

A field is a str, int, float, bool, a tuple or dict of those, another dataclass of this page, an ndarray (sent as a raw
buffer beside the header), or None where its type says so. `shared.wire` turns them into bytes and back and refuses
anything else. Changing a message means raising PROTOCOL_VERSION and adding a golden file in tests.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from numpy.typing import NDArray

from .desk_messages import DESK_MESSAGES, Finding
from .edit_messages import EDIT_MESSAGES, EditNote
from .errors import ERRORS_BY_CODE, EffigyError
from .motion_messages import GetMotion, MotionReply
from .render_messages import (
    AvatarInstance,
    FrameReply,
    GaussianCloud,
    InstanceLight,
    PixelMemory,
    PoseGaussians,
    PutEnvironment,
    RenderRequest,
    Superseded,
)
from .track_messages import TRACK_MESSAGES
from .types import ProxyMesh, Rig

__all__ = [  # what is defined elsewhere and used from here; the rest of this page needs no list
    "AvatarInstance",
    "FrameReply",
    "GaussianCloud",
    "GetMotion",
    "InstanceLight",
    "MotionReply",
    "PixelMemory",
    "PoseGaussians",
    "PutEnvironment",
    "RenderRequest",
    "Superseded",
]

PROTOCOL_VERSION = 16
Array = NDArray[Any]


# --- who is there ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Hello:
    """First message of a client. `key` is the backend's key, empty where the backend asks for none.

    client: how it is shown to others. instance: one text for all connections of a process, told to nobody else: the
    jobs that it starts are its own while it lives.
    """

    protocol: int
    client: str
    version: str
    key: str = ""
    instance: str = ""


@dataclass(frozen=True, eq=False)
class Welcome:
    """Answer to Hello. `epoch` is new at each start of the server: requests name it, so none outlives the server.

    frames_address, events_address: for clients of the same machine, which is the one that `machine` names
    (shared.machine); others use frames_port and events_port of the host they came to, 0 where there are none.
    render_workers: how many pictures it can be at, at the same time; a cluster has as many as workers, one host one.
    """

    protocol: int
    version: str
    epoch: str
    frames_address: str
    events_address: str
    device: str
    rasteriser: str
    capabilities: tuple[str, ...] = ()
    machine: str = ""
    frames_port: int = 0
    events_port: int = 0
    render_workers: int = 1


@dataclass(frozen=True, eq=False)
class Leave:
    """Last message of a client that closes in good order: what it holds is free at once. Not answered."""


@dataclass(frozen=True, eq=False)
class Ping:
    """Are you there?"""


@dataclass(frozen=True, eq=False)
class Done:
    """It was done; nothing more to say. Also the answer to Ping."""

    detail: str = ""


@dataclass(frozen=True, eq=False)
class Failure:
    """Answer to a request that could not be served: the four texts of EffigyError and its code."""

    code: str
    what: str
    found: str = ""
    expected: str = ""
    do: str = ""

    @classmethod
    def of(cls, error: EffigyError) -> Failure:
        """What to answer where `error` was raised."""
        return cls(error.code, error.what, error.found, error.expected, error.do)

    def error(self) -> EffigyError:
        """The exception to raise where this answer arrives; an unknown code gives a plain EffigyError."""
        kind = ERRORS_BY_CODE.get(self.code, EffigyError)
        return kind(self.what, found=self.found, expected=self.expected, do=self.do)


# --- library --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class ListAvatars:
    """Ask for the library's content."""


@dataclass(frozen=True, eq=False)
class AvatarSummary:
    """One avatar of the library. `problem` is the one-sentence reason why it cannot be used, else empty.

    metrics: held-out values such as psnr_db, ssim. digest: sha-256 over the avatar's weights and description.
    relightable: it holds materials, which any light is shaded on; without, new light on its colours is an estimate.
    edit: what it was edited from and by which words, None for an avatar that was not edited.
    """

    avatar_id: str
    name: str
    method: str
    digest: str
    template_id: str
    created: str
    metrics: dict[str, float] = field(default_factory=dict)
    licence: str = ""
    problem: str = ""
    relightable: bool = False
    edit: EditNote | None = None


@dataclass(frozen=True, eq=False)
class AvatarList:
    """Answer to ListAvatars."""

    avatars: tuple[AvatarSummary, ...]


@dataclass(frozen=True, eq=False)
class GetAvatar:
    """Ask for what Blender needs to make an avatar's armature and proxy."""

    avatar_id: str


@dataclass(frozen=True, eq=False)
class AvatarDetail:
    """Answer to GetAvatar. preview: [H, W, 4] uint8 sRGB straight alpha. rest_pose: [J, 3] rad, how it was captured."""

    summary: AvatarSummary
    rig: Rig
    proxy: ProxyMesh
    rest_pose: Array
    preview: Array


# --- training -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class StartTraining:
    """Ask for a training job. `key` makes it idempotent: the same key is the same job. capture: a name or a folder.

    overrides: dotted configuration names to YAML texts, on top of the preset. gpus: how many train together; of a job
    that is there and paused it changes that.
    """

    key: str
    name: str
    capture: str
    preset: str
    overrides: dict[str, str] = field(default_factory=dict)
    gpus: int = 1


@dataclass(frozen=True, eq=False)
class StartOnline:
    """Ask for a live training: a head that learns while its pictures arrive. `key` as in StartTraining.

    source: 'capture' (location: a name or folder, replayed), 'video' (location: a file, track: the poses beside it) or
    'listen' (location: the loopback address where a tracker pushes frames). mask: a second video with the person in
    white, where the first has no alpha. camera: the only camera of a capture to replay, empty for all. preset: empty
    for what suits the backend's device. video_fps: frames a second of a replay, 0 as recorded.
    It is an avatar from the start: JobInfo.avatar_id names it.
    """

    key: str
    name: str
    source: str
    location: str
    track: str = ""
    mask: str = ""
    camera: str = ""
    preset: str = ""
    overrides: dict[str, str] = field(default_factory=dict)
    video_fps: float = 25.0


@dataclass(frozen=True, eq=False)
class ListPresets:
    """Ask which training presets and embedded captures there are."""


@dataclass(frozen=True, eq=False)
class PresetList:
    """Answer to ListPresets: preset name -> one-line description, capture name -> one-line description.

    methods: preset name -> title of the method that it trains.
    """

    presets: dict[str, str]
    captures: dict[str, str]
    methods: dict[str, str] = field(default_factory=dict)


NO_ROOM = "Paused for want of room"
"""How the message of a running job begins whose disk is full; it goes on when there is room."""


@dataclass(frozen=True, eq=False)
class JobInfo:
    """State of a job. kind: train, edit, online, check, import, export, track or drive. state: queued, running, paused,
    done, failed or cancelled; removed where it is listed no more.

    avatar_id: what came of it; while a live training runs or is paused, the avatar that can be rendered meanwhile.
    report_folder: of a training its report, of an export what was written. place: in the queue, from 1; 0 out of it.
    capture, preset: what a training was asked to train from and how; capture also: what a tracking makes.
    owner: who may change it while they are there, empty: anyone. stalled_s: seconds without a step, where that is long.
    """

    job_id: str
    kind: str
    name: str
    state: str
    step: int = 0
    steps: int = 0
    images_per_s: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    eta_s: float = 0.0
    message: str = ""
    created: str = ""
    report_folder: str = ""
    avatar_id: str = ""
    place: int = 0
    findings: tuple[Finding, ...] = ()
    capture: str = ""
    preset: str = ""
    owner: str = ""
    stalled_s: float = 0.0


@dataclass(frozen=True, eq=False)
class ListJobs:
    """Ask for all jobs, newest first."""


@dataclass(frozen=True, eq=False)
class JobList:
    """Answer to ListJobs."""

    jobs: tuple[JobInfo, ...]


@dataclass(frozen=True, eq=False)
class ChangeJob:
    """Ask to 'pause', 'resume' or 'cancel' a job, to move one that waits 'up' or 'down' in the queue, or to 'remove'
    one that is over from the list (its folder goes to the trash); answered by its JobInfo.

    A live training can also be told to 'stop' (it ends here and becomes an avatar of the library) and to 'save' (what
    it has learned so far becomes an avatar of the library, and it goes on); cancelling it keeps nothing.

    A job that another client holds is left alone (Held), unless it is taken over: 'take'.
    """

    job_id: str
    action: str


@dataclass(frozen=True, eq=False)
class GetJobPreview:
    """Ask for the newest preview picture of a training job."""

    job_id: str


@dataclass(frozen=True, eq=False)
class JobPreview:
    """Answer to GetJobPreview. image: [H, W, 3] uint8 sRGB, model beside ground truth; [0, 0, 3] if none yet."""

    job_id: str
    step: int
    image: Array


# --- events, published with a sequence number -------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class JobEvent:
    """A job moved on. A gap in `sequence` means events were lost: ask ListJobs."""

    sequence: int
    job: JobInfo


MESSAGES: dict[str, type[Any]] = {
    kind.__name__: kind
    for kind in (
        Hello,
        Welcome,
        Leave,
        Ping,
        Done,
        Failure,
        ListAvatars,
        AvatarList,
        GetAvatar,
        AvatarDetail,
        StartTraining,
        StartOnline,
        ListPresets,
        PresetList,
        ListJobs,
        JobList,
        JobInfo,
        ChangeJob,
        GetJobPreview,
        JobPreview,
        PutEnvironment,
        RenderRequest,
        FrameReply,
        PoseGaussians,
        GaussianCloud,
        Superseded,
        GetMotion,
        MotionReply,
        *TRACK_MESSAGES,
        JobEvent,
        *DESK_MESSAGES,
        *EDIT_MESSAGES,
    )
}
"""Message name on the wire -> dataclass. The one place that says what may be sent."""
