"""Every function that turns bytes into values, found in the sources, and what each is: fuzzed, or why it need not be.

A new reader is in neither table, and a test says so. The search knows calls by name (`PRIMITIVES`); what reads in
another way is to be added there.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
ROOMS = ("shared", "avatars", "backend", "blender_addon")
OUTSIDE = ("backend/fuzzing/", "backend/chaos/")
"""What makes faults for tests reads what it made itself."""
PRIMITIVES = frozenset(
    {
        *("json.loads", "json.load", "yaml.load", "yaml.safe_load", "yaml.compose", "csv.reader", "csv.DictReader"),
        *("tomllib.load", "tomllib.loads", "ast.literal_eval", "pickle.load", "pickle.loads", "pickletools.genops"),
        *("np.load", "np.loadtxt", "np.genfromtxt", "np.fromfile", "np.frombuffer", "np.fromstring", "np.memmap"),
        *("torch.load", "trimesh.load", "trimesh.load_mesh", "h5py.File", "Image.open", "OpenEXR.File", "mmap.mmap"),
        *("struct.unpack", "struct.unpack_from", "struct.iter_unpack", "zipfile.ZipFile", "tarfile.open", "gzip.open"),
        *("gzip.decompress", "zlib.decompress", "zlib.decompressobj", "lzma.open", "bz2.open"),
        *("cv2.VideoCapture", "cv2.imread", "imageio_ffmpeg.read_frames", "imageio.imread", "ET.parse"),
    }
)
"""Calls of a module's function that make values of bytes."""
NAMES = frozenset(
    {
        *("read_bytes", "read_text", "load_file", "safe_load", "safe_open", "read_npz", "read_npy", "read_pickle"),
        *("pickled_npy", "small_file", "json_object", "arrays_of", "read_private", "open_picture", "plain_dataset"),
    }
)
"""Functions and methods that do, whatever they are called on."""

OURS = "comes with Effigy and is never replaced by a stranger's"
PROCESS = "lines of a process that Effigy itself started"
STATE = "written by this program into its own folder; damage is told or left out, tests damage it"
RENDERED = "a picture that this program has just written"
COUNTED = "only counts, hashes or shows the bytes as text"
CLUSTER = "between the machines of one's own cluster, names and digests checked, its own tests damage it"
PASSED_ON = "gives bytes of a bounded size to a reader that is fuzzed"
MAKER = "a developer's command that makes a file of the repository, of files that the developer chose"

TRUSTED: Mapping[str, str] = {
    "shared/machine.py": "the kernel's own file",
    "shared/pixel_memory.py:PixelWriter.put": "writes into memory of its own",
    "shared/pixel_memory.py:PixelWriter._have": "writes into memory of its own",
    "avatars/captures/bake_surfaces.py": MAKER,
    "avatars/files.py": COUNTED,
    "avatars/lighting/environment_files.py:write_exr": RENDERED,
    "avatars/rendering/jit.py": COUNTED,
    "avatars/training/checkpoint_files.py": "what the fuzzed newest_checkpoint reads, seals and digests first",
    "avatars/templates/bake.py": MAKER,
    "avatars/text_edit/editors/vocabulary.py": OURS,
    "avatars/text_edit/editors/weights.py:cached": "a revision's name of a hub cache, checked by a pattern",
    "avatars/tracking/body_landmarks.py": OURS,
    "avatars/tracking/correspondences.py": OURS,
    "backend/camera_process.py": "a camera of this machine",
    "backend/cli_fuzz.py": PROCESS,
    "backend/cli_refine_benchmark.py": RENDERED,
    "backend/cli_relight.py:render_pseudo": "the teacher's description, which open_teacher has just checked",
    "backend/cli_scale.py": PROCESS,
    "backend/cli_serve.py": "a key's file that its owner names",
    "backend/cli_test_body.py:_on_motion": PASSED_ON,
    "backend/cli_track.py": RENDERED,
    "backend/cli_track_benchmark.py": STATE,
    "backend/demo.py": STATE,
    "backend/detector.py": PROCESS,
    "backend/detector_process.py": PROCESS,
    "backend/engines/capture_cache.py": CLUSTER,
    "backend/engines/capture_listing.py": CLUSTER,
    "backend/engines/capture_sending.py": CLUSTER,
    "backend/engines/node_cache.py": CLUSTER,
    "backend/engines/packing.py": CLUSTER,
    "backend/engines/ray_actors.py": CLUSTER,
    "backend/engines/ray_cluster.py": CLUSTER,
    "backend/engines/ray_train.py": CLUSTER,
    "backend/engines/ray_train_actor.py": CLUSTER,
    "backend/engines/render_crew.py": CLUSTER,
    "backend/farm/film.py": RENDERED,
    "backend/farm/job.py": STATE,
    "backend/farm/task.py": PROCESS,
    "backend/front_desk.py": COUNTED,
    "backend/growth/plots.py": RENDERED,
    "backend/growth/run.py": STATE,
    "backend/growth/timing.py": PROCESS,
    "backend/launcher.py": PROCESS,
    "backend/leases.py": STATE,
    "backend/live_pictures.py": PROCESS,
    "backend/meshes.py": "its own words, once through JSON",
    "backend/on_gpus.py": PROCESS,
    "backend/online_jobs.py": STATE,
    "backend/rank_worker.py": PROCESS,
    "backend/reenactment.py:_settings": STATE,
    "backend/relit_pipeline.py": STATE,
    "backend/result_folder.py": STATE,
    "backend/scale_rank.py": PROCESS,
    "backend/surface_benchmark.py": STATE,
    "backend/tracker_environment.py": STATE,
    "backend/tracking_errands.py": RENDERED,
    "backend/tracking_run.py": STATE,
    "backend/training_run.py": STATE,
    "backend/workers.py": COUNTED,
    "blender_addon/build.py": MAKER,
    "blender_addon/logic/child.py": COUNTED,
    "blender_addon/logic/cryptomatte.py": "a number's bits",
    "blender_addon/services/frame_files.py": COUNTED,
    "blender_addon/synthesise/capture.py": STATE,
    "blender_addon/synthesise/exr_passes.py": RENDERED,
    "blender_addon/ui/operators_camera.py": PASSED_ON,
}
"""File, or file:function -> why it is not fuzzed."""


@cache
def readers() -> tuple[tuple[str, str, str], ...]:
    """(file, function, what it calls) of every call that reads."""
    return tuple(_found())


def _found() -> Iterator[tuple[str, str, str]]:
    for room in ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            file = path.relative_to(ROOT).as_posix()
            if not file.startswith(OUTSIDE):
                for function, called in _calls(ast.parse(path.read_text(encoding="utf-8")), ()):
                    yield file, function, called


def _calls(node: ast.AST, inside: tuple[str, ...]) -> Iterator[tuple[str, str]]:
    for child in ast.iter_child_nodes(node):
        named = isinstance(child, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef)
        if isinstance(child, ast.Call) and (called := _reads(child)):
            yield ".".join(inside), called
        yield from _calls(child, (*inside, child.name) if named else inside)  # type: ignore[attr-defined]


def _reads(call: ast.Call) -> str:
    """The name of what is called, where it reads; else nothing."""
    function = call.func
    if isinstance(function, ast.Name):
        return function.id if function.id in NAMES or (function.id == "open" and _for_reading(call, 1)) else ""
    if not isinstance(function, ast.Attribute):
        return ""
    owner = function.value.id if isinstance(function.value, ast.Name) else ""
    if function.attr in NAMES or f"{owner}.{function.attr}" in PRIMITIVES:
        return function.attr
    return "open" if function.attr == "open" and _for_reading(call, 0) else ""


def _for_reading(call: ast.Call, place: int) -> bool:
    """Whether an `open` opens a file for reading; without a mode only where it names an encoding, as files do."""
    words = [*(call.args[place : place + 1]), *(item.value for item in call.keywords if item.arg == "mode")]
    modes = [word.value for word in words if isinstance(word, ast.Constant) and isinstance(word.value, str)]
    if modes:
        return "r" in modes[0] and set(modes[0]) <= set("rbt+")
    return place == 1 or (not call.args and any(item.arg in ("encoding", "errors") for item in call.keywords))
