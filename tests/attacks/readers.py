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
        *("images.load", "libraries.load", "movieclips.load", "import_anim.bvh", "import_scene.fbx"),
        *("import_scene.gltf", "wm.obj_import", "wm.ply_import", "wm.alembic_import", "wm.usd_import", "ray.get"),
    }
)
"""Calls of a module's function that make values of bytes."""
NAMES = frozenset(
    {
        *("read_bytes", "read_text", "load_file", "safe_load", "safe_open", "read_npz", "read_npy", "read_pickle"),
        *("pickled_npy", "small_file", "json_object", "arrays_of", "read_private", "open_picture", "plain_dataset"),
        *("unpack", "unpack_from", "iter_unpack", "b64decode", "from_pretrained", "from_single_file"),
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
HUB = "the model's own library, of safetensors alone, once the fuzzed list of its parts is read"
BLENDER = "Blender's own reader, on a file that its user chose; BVH files go through the fuzzed bvh_fps first"
MAKER = "a developer's command that makes a file of the repository, of files that the developer chose"

REASONS: tuple[tuple[str, str, str], ...] = (
    ("avatars/captures/bake_surfaces.py", "main", MAKER),
    ("avatars/evaluation/edit_clip.py", "Clip.__init__", HUB),
    ("avatars/files.py", "check_seal sha256_of sync_file", COUNTED),
    ("avatars/lighting/environment_files.py", "write_exr", RENDERED),
    ("avatars/rendering/jit.py", "_sources_digest", COUNTED),
    ("avatars/templates/bake.py", "face_groups", MAKER),
    ("avatars/text_edit/editors/loading.py", "_pictures_and_words load_pipeline", HUB),
    ("avatars/text_edit/editors/vocabulary.py", "looks", OURS),
    ("avatars/text_edit/editors/weights.py", "cached", "a revision's name of a hub cache, checked by a pattern"),
    ("avatars/tracking/body_landmarks.py", "read_body_landmarks", OURS),
    ("avatars/tracking/correspondences.py", "landmark_arrays read_correspondences", OURS),
    ("avatars/training/checkpoint_files.py", "verified_notes", "what the fuzzed newest_checkpoint reads"),
    ("backend/camera_process.py", "main", "a camera of this machine"),
    ("backend/cli_fuzz.py", "_kept", PROCESS),
    ("backend/cli_refine_benchmark.py", "_trained", RENDERED),
    ("backend/cli_relight.py", "render_pseudo", "the teacher's description, which open_teacher has just checked"),
    ("backend/cli_scale.py", "run_ranks", PROCESS),
    ("backend/cli_serve.py", "read_key", "a key's file that its owner names"),
    ("backend/cli_test_body.py", "_on_motion", PASSED_ON),
    ("backend/cli_track.py", "write_picture", RENDERED),
    ("backend/cli_track_benchmark.py", "write_exact_twin", STATE),
    ("backend/demo.py", "_film _run_blender run_demo", STATE),
    ("backend/detector.py", "Detector._floats Detector._line Detector.mask", PROCESS),
    ("backend/detector_process.py", "serve", PROCESS),
    ("backend/engines/capture_cache.py", "CaptureCache.known", CLUSTER),
    ("backend/engines/capture_listing.py", "pieces with_digests", CLUSTER),
    ("backend/engines/capture_sending.py", "CaptureSender._ask", CLUSTER),
    ("backend/engines/node_cache.py", "avatar_parcel", CLUSTER),
    ("backend/engines/packing.py", "pack_folder", CLUSTER),
    ("backend/engines/ray_actors.py", "RenderActor.ask RenderActor.put_environment", CLUSTER),
    ("backend/engines/ray_cluster.py", "_local_address", CLUSTER),
    ("backend/engines/ray_render.py", "RenderRelay._answered RenderRelay._ready", CLUSTER),
    ("backend/engines/ray_train.py", "TrainRelay._on_some_machine TrainRelay._taken_home", CLUSTER),
    ("backend/engines/ray_train_actor.py", "TrainActor.begin TrainActor.result TrainActor.want", CLUSTER),
    ("backend/engines/render_crew.py", "facts_in", CLUSTER),
    ("backend/farm/film.py", "_exr read_picture", RENDERED),
    ("backend/farm/task.py", "planned", PROCESS),
    ("backend/front_desk.py", "_tail", COUNTED),
    ("backend/growth/plots.py", "_saved", RENDERED),
    ("backend/growth/run.py", "read_figures", STATE),
    ("backend/growth/timing.py", "_mark_bytes", PROCESS),
    ("backend/launcher.py", "_first_line _last_line", PROCESS),
    ("backend/leases.py", "_kept", STATE),
    ("backend/live_pictures.py", "Camera._line Camera.next", PROCESS),
    ("backend/meshes.py", "write_mesh", "its own words, once through JSON"),
    ("backend/on_gpus.py", "_Ranks._failure _Ranks.followed _Ranks.lost _progress", PROCESS),
    ("backend/online_jobs.py", "OnlineJobs._kept", STATE),
    ("backend/rank_worker.py", "main", PROCESS),
    ("backend/reenactment.py", "_settings", STATE),
    ("backend/relit_pipeline.py", "teach_and_distil", STATE),
    ("backend/result_folder.py", "finished_result train_into", STATE),
    ("backend/scale_rank.py", "main", PROCESS),
    ("backend/surface_benchmark.py", "read_figures", STATE),
    ("backend/tracker_environment.py", "tracker_python", STATE),
    ("backend/tracking_errands.py", "track_video", RENDERED),
    ("backend/tracking_run.py", "cut_out prepare_output read_cut_out", STATE),
    ("backend/training_run.py", "finished_run", STATE),
    ("backend/workers.py", "Worker.last_words", COUNTED),
    ("blender_addon/build.py", "_version build check manifest_text", MAKER),
    ("blender_addon/logic/child.py", "BackendProcess.last_line BackendProcess.whole_log", COUNTED),
    ("blender_addon/logic/cryptomatte.py", "name_id", "a number's bits"),
    ("blender_addon/services/animation.py", "world_from_hdri", BLENDER),
    ("blender_addon/services/frame_files.py", "FrameWriter.finish", COUNTED),
    ("blender_addon/services/mesh_build.py", "_image", BLENDER),
    ("blender_addon/services/retarget.py", "_import", BLENDER),
    ("blender_addon/services/video.py", "_set_up", RENDERED),
    ("blender_addon/synthesise/capture.py", "_prepare_folder", STATE),
    ("blender_addon/synthesise/exr_passes.py", "read_passes", RENDERED),
    ("blender_addon/synthesise/materials.py", "_image", OURS),
    ("blender_addon/synthesise/paint_skin.py", "read_mask", OURS),
    ("blender_addon/synthesise/scene.py", "_light_image", OURS),
    ("blender_addon/ui/operators_camera.py", "EFFIGY_OT_import_cameras.execute", PASSED_ON),
    ("blender_addon/ui/operators_relight.py", "light_scene", BLENDER),
    ("shared/machine.py", "machine_token", "the kernel's own file"),
    ("shared/pixel_memory.py", "PixelWriter.put PixelWriter._have", "writes into memory of its own"),
)
"""File, its functions, and why they are not fuzzed: of functions, so that a new reader beside them is seen."""
TRUSTED: Mapping[str, str] = {
    f"{file}:{function}": reason for file, functions, reason in REASONS for function in functions.split()
}
"""file:function -> why it is not fuzzed."""


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
    owner = getattr(function.value, "id", getattr(function.value, "attr", ""))  # of `a.b.c()` it is b
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
