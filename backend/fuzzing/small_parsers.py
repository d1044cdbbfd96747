"""The smaller readers of the fuzz table: keys, caches of tracking, requests of jobs, other projects' option files."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from backend.fuzzing import small_samples as samples
from backend.fuzzing.runner import Files, Parser
from shared.errors import BadConfig


def _key_ring(folder: Path) -> Any:
    from backend.key_ring import KeyRing

    _private(folder)
    ring = KeyRing(folder)
    return ring.pair(), ring.clients()


def _connection(folder: Path) -> Any:
    from shared.keys import read_connection

    _private(folder)
    return read_connection(folder / "x.json")


def _private(folder: Path) -> None:
    """Files of keys that others may read are refused before they are read."""
    for path in folder.iterdir():
        path.chmod(0o600)


def _pixels(files: Files) -> Any:
    """A place in shared memory that holds a picture, changed as a peer might."""
    from shared.pixel_memory import PixelReader, PixelWriter, supported
    from shared.wire import DTYPES

    said = _place(files["place.json"])
    if not supported():
        raise BadConfig("this system has no shared memory of this kind")
    writer, reader = PixelWriter(), PixelReader()
    try:
        true = writer.put([np.zeros((1024, 1024, 1), DTYPES["uint8"])])
        if true is None:
            raise BadConfig("there is no memory to share")
        changed: dict[str, Any] = {
            "file_bytes": true.file_bytes + said["file_bytes"],
            "offset": true.offset + said["offset"],
            "stamp": said["stamp"],
            "dtypes": tuple(said["dtypes"]),
            "shapes": tuple(tuple(shape) for shape in said["shapes"]),
        }
        found = reader.take(replace(true, **changed))
        if found is None:
            raise BadConfig("another picture lies there")
        return found
    finally:
        reader.close()
        writer.close()


def _place(content: bytes) -> dict[str, Any]:
    """The fields of the message that names the place, typed as the wire types them."""
    from shared.messages import FrameReply
    from shared.wire import Header, read_message

    try:
        body = json.loads(content)
        memory = {"process": 1, "descriptor": 3, "token": "ab" * 16, **body}
        document = {"view": "v", "frame": 1, "pass_names": [], "images": [], "memory": memory}
    except (ValueError, TypeError, RecursionError) as error:
        raise BadConfig("this is no place") from error
    names = {name: document.get(name) for name in FrameReply.__dataclass_fields__}
    reply = read_message(Header("FrameReply", 1, "", _filled(names), ()), [b""])
    return {name: getattr(reply.memory, name) for name in ("file_bytes", "offset", "stamp", "dtypes", "shapes")}


def _filled(given: dict[str, Any]) -> dict[str, Any]:
    """A FrameReply's other fields as in a valid sample."""
    from backend.fuzzing.wire_samples import messages

    header = next(one for one in messages() if json.loads(one["0.json"])["name"] == "FrameReply")["0.json"]
    body: dict[str, Any] = json.loads(header)["body"]
    return body | {"images": [], "memory": given["memory"]}


def _face_detections(folder: Path) -> Any:
    from avatars.tracking.detections import Detections

    found = Detections.read(folder / "x.npz")
    return Detections.joined([found, found]), found.seen


def _body_detections(folder: Path) -> Any:
    from avatars.tracking.body_detections import BodyDetections

    found = BodyDetections.read(folder / "x.npz")
    return BodyDetections.joined([found, found]), found.seen


def _edit_request(folder: Path) -> Any:
    from backend.edit_requests import read_request

    return read_request(folder, "j1")


def _track(folder: Path) -> Any:
    from avatars.online.track import read_track

    track = read_track(folder)
    return [track.camera(frame) for frame in range(len(track))]


def _diffusion(folder: Path) -> Any:
    from avatars.text_edit.editors.loading import beside
    from avatars.text_edit.editors.weights import find_weights

    return beside(find_weights("sdxl", str(folder)))


def _cfg_args(folder: Path) -> Any:
    from avatars.formats.gaussian_avatars import read_cfg_args

    return read_cfg_args(folder / "cfg_args")


def _gaussian_cameras(folder: Path) -> Any:
    from avatars.formats.gaussian_avatars import read_cameras

    return read_cameras(folder / "cameras.json")


def _rgbavatar_settings(folder: Path) -> Any:
    from avatars.formats.rgbavatar_network import read_settings

    return read_settings(folder / "x.yaml")


def _rgbavatar_preset(folder: Path) -> Any:
    from avatars.training.config import load_config

    return load_config(str(folder / "x.yaml"))


def _mesh_file(folder: Path) -> Any:
    from backend.cli_evaluate_mesh import read_triangles

    return read_triangles(next(folder.glob("x.*")))


def _pseudo_truth(folder: Path) -> Any:
    import torch

    from avatars.relit_body.pseudo_truth import StoredPseudoTruth

    stored = StoredPseudoTruth(folder)
    rows = torch.arange(len(stored))
    return stored.pose(rows), stored.images(rows, 4)


def _radiance(folder: Path) -> Any:
    from backend.cli_render import read_radiance

    return read_radiance(folder / "x.npz")


def _mask(folder: Path) -> Any:
    from avatars.text_edit.drawn import opened

    return opened(next(folder.iterdir()), (8, 8))


def _options(folder: Path) -> Any:
    from avatars.captures.options import amend_options, read_options
    from avatars.captures.reading import INSTA_READING

    found = read_options(folder, INSTA_READING)
    amend_options(folder, {"split": {"train_cameras": [0]}})
    return found


def _refined(folder: Path) -> Any:
    from avatars.captures.opening import open_capture
    from avatars.training.changed_data import with_parameters

    return with_parameters(open_capture(folder), folder / "refined.npz")


def _hashes(folder: Path) -> Any:
    from backend.farm.hashes import read_hashes

    return read_hashes(folder / "x.json")


def _farm_job(folder: Path) -> Any:
    from backend.farm.job import read_job

    job = read_job(folder)
    return [job.chunk(task) for task in range(1, min(job.tasks, 100) + 1)]


def _arrived(folder: Path, listing: bytes, content: bytes) -> None:
    from backend.engines.capture_cache import Arriving
    from backend.engines.capture_listing import entries_of

    arriving = None
    try:
        arriving = Arriving(folder, entries_of(listing))
        arriving.write(content)
        arriving.end()
    except OSError as error:  # a name that this disk does not take
        raise BadConfig("a file cannot be written") from error
    finally:
        if arriving is not None:
            arriving.close()


def _parcel(folder: Path) -> Any:
    """As another machine takes what it is sent, into empty folders."""
    from backend.engines.checkpoint_copies import put
    from backend.engines.node_cache import NodeCache

    with tempfile.TemporaryDirectory() as place:
        if (folder / "parcel").is_file():
            digest = (folder / "digest").read_text("latin1")
            return NodeCache(Path(place)).keep(digest, (folder / "parcel").read_bytes())
        if (folder / "listing").is_file():
            return _arrived(Path(place), (folder / "listing").read_bytes(), (folder / "content").read_bytes())
        if not put(Path(place), (folder / "checkpoint").read_bytes()):
            raise BadConfig("the checkpoint arrived damaged")
        return None


def _label(folder: Path) -> Any:
    from avatars.avatar_folder import shown_name

    return shown_name(folder, {"name": "tiny"})


def _torch_weights(folder: Path) -> Any:
    from avatars.training.lpips import read_weights

    return read_weights(folder / "x.pth")


SMALL_PARSERS = (
    Parser("keys", samples.keys, _key_ring),
    Parser("connection_file", samples.connections, _connection),
    Parser("pixel_memory", samples.pixel_places, parse=_pixels),
    Parser("face_detections", samples.face_detections, _face_detections),
    Parser("body_detections", samples.body_detections, _body_detections),
    Parser("edit_request", samples.edit_requests, _edit_request),
    Parser("track", samples.tracks, _track),
    Parser("diffusion_weights", samples.diffusion_weights, _diffusion, damaged=("model_index.json", "README.md")),
    Parser("cfg_args", samples.training_arguments, _cfg_args, damaged=("cfg_args",)),
    Parser("gaussian_cameras", samples.training_arguments, _gaussian_cameras, damaged=("cameras.json",)),
    Parser("rgbavatar_settings", samples.rgbavatar_settings, _rgbavatar_settings),
    Parser("rgbavatar_preset", samples.rgbavatar_settings, _rgbavatar_preset),
    Parser("mesh_file", samples.meshes, _mesh_file),
    Parser("pseudo_truth", samples.pseudo_truth, _pseudo_truth),
    Parser("radiance", samples.radiance, _radiance),
    Parser("edit_mask", samples.masks, _mask),
    Parser("capture_options", samples.capture_options, _options),
    Parser("refined_parameters", samples.refined, _refined, damaged=("refined.npz",)),
    Parser("frame_hashes", samples.frame_hashes, _hashes),
    Parser("farm_job", samples.farm_jobs, _farm_job),
    Parser("parcel", samples.parcels, _parcel),
    Parser("label", samples.label, _label),
    Parser("torch_weights", samples.perceptual_weights, _torch_weights),
)
"""In the order of the table."""
