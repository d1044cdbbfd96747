"""All that decides a training run, as frozen dataclasses. Counts are images, so batch size changes nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from avatars.mlp_body.settings import MlpBodyConfig, check_body
from avatars.relit_body.settings import RelitConfig, check_relit
from avatars.relit_field.settings import TeacherConfig, check_teacher
from avatars.relit_head.settings import RelitHeadConfig, check_relit_head
from avatars.rgb_head.initial import RgbHeadConfig
from avatars.surface_body.settings import SurfaceConfig, check_surface
from avatars.text_edit.config import EditConfig, check_edit_config
from avatars.training.refine_settings import DataConfig, RefineConfig, check_refine
from avatars.training.rgbavatar_yaml import OriginalConfig, is_original, read_original
from avatars.training.typed import from_mapping, with_overrides
from shared.errors import BadConfig, nearest

PRESET_FOLDER = Path(__file__).parent / "presets"
TEACHER, EDIT = "relit_teacher", "text_edit"
MAX_FILE_BYTES, MAX_DEPTH, MAX_REFERENCES = 1 << 20, 32, 20
YAML_LOADER: type = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""PyYAML's safe loader, in C where it was built so: ten times as fast, and every list of presets reads all files."""


@dataclass(frozen=True)
class Schedule:
    """When things happen, in images seen.

    images: how many in all. batch: images a step. max_seconds: 0, or a time after which training ends; the schedule
    then follows max(images / all images, seconds / max_seconds), so a slow machine still ends with small rates; but
    never with fewer than min_images seen, however long that takes.
    grow_batch: with several GPUs, which share a batch, each takes a whole one instead; learning rates grow by the
    root of their number (docs/training.md).
    views: so many pictures of a batch are of one frame, where it has them (it is then posed once for all).
    sizes_px: longest image side in each stage, from the image counts in stages_from. deltas_from: blendshapes and
    network join.
    """

    images: int = 50000
    batch: int = 10
    grow_batch: bool = False
    max_seconds: float = 0.0
    min_images: int = 0
    sizes_px: tuple[int, ...] = (512,)
    stages_from: tuple[int, ...] = (0,)
    views: int = 1
    deltas_from: int = 3000
    colour_from_images: bool = True


@dataclass(frozen=True)
class Rates:
    """Adam's learning rates.

    Position decays log-linearly to position_final at position_until images; all others to `others_final` times
    themselves at others_until images (0: at the end). delta_*: factors on the rate of the attribute they belong to.
    """

    position: float = 8e-4
    position_final: float = 8e-6
    position_until: int = 30000
    opacity: float = 0.25
    scale: float = 0.025
    rotation: float = 0.005
    colour: float = 0.0125
    delta_position: float = 0.05
    delta_rotation: float = 0.5
    delta_colour: float = 0.5
    network: float = 1e-3
    others_final: float = 1.0
    others_until: int = 0


@dataclass(frozen=True)
class LossWeights:
    """Weights of the terms; 0 leaves a term out. *_from: the images after which a term joins.

    Of the picture: l1; charbonnier (round at zero); ssim and multi_scale_ssim multiply 1 - similarity; gradient is L1
    of pixel steps; pyramid L1 of Laplacian pyramids; lpips the distance of VGG features, where its weights are found
    (`avatars.training.lpips`; lpips_folder is looked into first); alpha is L1 on coverage. Terms that join late rise
    to their weight over ramp_images.
    Of the model: offset and size hold Gaussians near their start and small (beyond offset_limit_m, hair_limit_m for the
    layers of hair, and size_limit_m); delta keeps blendshapes small where no image asks for them; sparsity is the mean
    size of blend weights; orthogonality keeps blendshapes unlike each other. theta_noise is no term: so many standard
    deviations of noise on what drives the network, so that it blends smoothly between the frames it was shown.
    """

    l1: float = 1.0
    charbonnier: float = 0.0
    ssim: float = 0.0
    ssim_from: int = 0
    multi_scale_ssim: float = 0.0
    multi_scale_ssim_from: int = 0
    gradient: float = 0.0
    gradient_from: int = 0
    pyramid: float = 0.0
    pyramid_from: int = 0
    lpips: float = 0.0
    lpips_from: int = 20000
    lpips_folder: str = ""
    ramp_images: int = 0
    alpha: float = 0.0
    offset: float = 0.0
    offset_limit_m: float = 0.006
    hair_limit_m: float = 0.02
    size: float = 0.0
    size_limit_m: float = 0.01
    delta: float = 0.0
    sparsity: float = 0.0
    orthogonality: float = 0.0
    theta_noise: float = 0.0


@dataclass(frozen=True)
class Reporting:
    """How often things are written or told.

    Seconds between checkpoints, previews and events (checkpoint_images adds a fixed count; 0 is off). curve_points:
    evaluations of a small held-out subset during training; curve_images: how many pictures that subset has.
    tensorboard: write losses and previews for TensorBoard as well (needs the package tensorboard).
    """

    checkpoint_s: float = 60.0
    checkpoint_images: int = 0
    preview_s: float = 3.0
    event_s: float = 0.5
    curve_points: int = 12
    curve_images: int = 4
    tensorboard: bool = False


@dataclass(frozen=True)
class TrainConfig:
    """One training run. size_px: longest image side of evaluation. background: behind training images.

    split: images trained on. 'test' swaps them with the held-out ones; 'all' adds those to the others.
    watched: held-out pictures that curves and previews show and the report measures first: 'test', or 'val' where the
    capture has cameras kept back (bodies: seen poses from new views; 'test' are then new poses).
    model, rates: of heads; body: of bodies, with rates and losses of their own beside `losses`;
    relit: of relightable people, likewise; relit_head: of relightable heads, beside model, rates and losses;
    teacher: of implicit teachers of people, with everything of their own; edit: of edits of avatars, likewise;
    surface: of signed-distance bodies, likewise. refine: what is learned of the errors of a tracked capture; data: what
    is changed of a capture beforehand.
    """

    description: str = ""
    method: Literal[
        "rgb_head", "mlp_body", "relit_body", "relit_head", "relit_teacher", "text_edit", "surface_body"
    ] = "rgb_head"
    seed: int = 0
    size_px: int = 512
    background: Literal["random", "white", "black"] = "random"
    split: Literal["train", "test", "all"] = "train"
    watched: Literal["test", "val"] = "test"
    model: RgbHeadConfig = field(default_factory=RgbHeadConfig)
    body: MlpBodyConfig = field(default_factory=MlpBodyConfig)
    relit: RelitConfig = field(default_factory=RelitConfig)
    relit_head: RelitHeadConfig = field(default_factory=RelitHeadConfig)
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    edit: EditConfig = field(default_factory=EditConfig)
    surface: SurfaceConfig = field(default_factory=SurfaceConfig)
    schedule: Schedule = field(default_factory=Schedule)
    rates: Rates = field(default_factory=Rates)
    losses: LossWeights = field(default_factory=LossWeights)
    refine: RefineConfig = field(default_factory=RefineConfig)
    data: DataConfig = field(default_factory=DataConfig)
    reporting: Reporting = field(default_factory=Reporting)


def presets() -> dict[str, str]:
    """Name -> one-line description of the presets that make avatars."""
    return {name: text for name, (method, text) in _all_presets().items() if method not in (TEACHER, EDIT)}


def preset_methods() -> dict[str, str]:
    """Name -> method of the presets that make avatars."""
    return {name: method for name, (method, _) in _all_presets().items() if method not in (TEACHER, EDIT)}


def _all_presets() -> dict[str, tuple[str, str]]:
    """Name -> method and description."""
    found = {}
    for path in sorted(PRESET_FOLDER.glob("*.yaml")):
        values = read_settings(path)
        found[path.stem] = str(values.get("method", TrainConfig.method)), str(values.get("description", ""))
    return found


def load_config(preset: str, overrides: Mapping[str, str] | None = None) -> TrainConfig:
    """A preset (by name, or the path of a YAML file) with dotted overrides, each a YAML text. Raises BadConfig.

    A file may also be one of RGBAvatar's own (`rgbavatar_yaml`).

    >>> load_config("tiny", {"schedule.images": "40"}).schedule.images
    40
    """
    path = config_file(preset)
    values = read_settings(path)
    settings = read_original(values, path.name).settings if is_original(values) else values
    config = from_mapping(TrainConfig, with_overrides(settings, overrides or {}, TrainConfig), path.stem)
    check_config(config)
    return config


def original_config(preset: str) -> OriginalConfig | None:
    """What a file of RGBAvatar's says beyond a `TrainConfig`; None for a preset or a file of ours. Raises BadConfig."""
    path = config_file(preset)
    values = read_settings(path)
    return read_original(values, path.name) if is_original(values) else None


def config_file(preset: str) -> Path:
    """The YAML file of a preset's name, or the file itself. Raises BadConfig naming the nearest preset."""
    path = PRESET_FOLDER / f"{preset}.yaml"
    if not path.is_file():
        path = Path(preset).expanduser()
    if path.suffix not in (".yaml", ".yml") or not path.is_file():
        raise BadConfig(f"there is no preset {preset!r}{nearest(preset, presets())}", expected=", ".join(presets()))
    return path


def check_config(config: TrainConfig) -> None:
    """Refuse values that make no sense together. Raises BadConfig."""
    plan = config.schedule
    if len(plan.sizes_px) != len(plan.stages_from) or not plan.sizes_px or plan.stages_from[0] != 0:
        raise BadConfig(
            "schedule.sizes_px and schedule.stages_from do not fit",
            found=f"{list(plan.sizes_px)} and {list(plan.stages_from)}",
            expected="as many stages as sizes, the first from 0",
        )
    if list(plan.stages_from) != sorted(plan.stages_from):
        raise BadConfig("schedule.stages_from is out of order", found=str(list(plan.stages_from)))
    for name, value, low in (
        ("schedule.images", plan.images, 1),
        ("schedule.batch", plan.batch, 1),
        ("schedule.views", plan.views, 1),
        ("size_px", config.size_px, 8),
        ("schedule.sizes_px", min(plan.sizes_px), 8),
        ("model.target_gaussians", config.model.target_gaussians, 1),
        ("model.blendshapes", config.model.blendshapes, 1),
        ("schedule.max_seconds", plan.max_seconds, 0),
        ("model.initial_opacity", config.model.initial_opacity, 1e-4),
        ("model.initial_scale", config.model.initial_scale, 1e-4),
    ):
        if value < low:
            raise BadConfig(f"{name} is too small", found=str(value), expected=f"at least {low}")
    if config.method == "relit_body":
        check_relit(config.relit)
    if config.method == "relit_head":
        check_relit_head(config.relit_head)
    if config.method == "mlp_body":
        check_body(config.body)
    if config.method == TEACHER:
        check_teacher(config.teacher)
    if config.method == "surface_body":
        check_surface(config.surface)
    if config.method == EDIT:
        check_edit_config(config.edit)
    check_refine(config.refine, config.data)
    if config.model.initial_opacity >= 1:
        raise BadConfig(
            "model.initial_opacity is too large", found=str(config.model.initial_opacity), expected="below 1"
        )


def read_settings(path: Path) -> dict[str, Any]:
    """The names and values of a YAML file. Raises BadConfig."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise ValueError(f"it is larger than {MAX_FILE_BYTES} bytes")
        text = path.read_text(encoding="utf-8")
        _check_shape(text)
        values = yaml.load(text, Loader=YAML_LOADER)
    except (OSError, ValueError, OverflowError, RecursionError, AttributeError, yaml.YAMLError) as error:
        raise BadConfig(f"{path.name} cannot be read", found=str(error).replace("\n", " ")[:300]) from error
    if not isinstance(values, dict):
        raise BadConfig(f"{path.name} holds no settings", expected="names and values")
    return values


def _check_shape(text: str) -> None:
    """Nesting and references that no settings have would cost a parser its stack or its memory. Raises ValueError."""
    depth = references = 0
    for event in yaml.parse(text, Loader=YAML_LOADER):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        references += isinstance(event, yaml.AliasEvent)
        if depth > MAX_DEPTH or references > MAX_REFERENCES:
            raise ValueError(f"it is nested deeper than {MAX_DEPTH} levels or refers to itself too often")
