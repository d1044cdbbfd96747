"""RGBAvatar's own configuration files (method page 7), read into ours: every key is used, explained, or refused."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from avatars.online.sampler import SamplerConfig
from avatars.training.typed import from_mapping
from shared.errors import BadConfig

MARKS = ("dataset", "train", "template_type")
"""Top-level keys that RGBAvatar's files have and ours never do."""
GROUND_COLOURS = {(0.0, 0.0, 0.0): "black", (1.0, 1.0, 1.0): "white"}
LATE_PERCEPTUAL_IMAGES = 20_000
"""From here on the original adds LPIPS, whatever its configuration says (method page 3.1)."""
AS_RECORDED_PX = 4096
"""Pictures are never made larger, so this keeps the recorded size of all that a GPU can train on."""
POSE_INPUTS, EXPRESSION_INPUTS = 29, 100


@dataclass(frozen=True)
class _Dataset:
    pin_memory: bool = True
    use_shape_weight: bool = True
    use_pose_weight: bool = True


@dataclass(frozen=True)
class _Model:
    tex_size: int = 256
    num_basis_in: int = 129
    num_basis_blend: int = 20
    use_blend: bool = True
    use_weight_proj: bool = True
    use_mlp_proj: bool = True
    init_scaling: float = 0.0008
    init_opacity: float = 0.5


@dataclass(frozen=True)
class _Sampler:
    local_pool_max_size: int = 150
    global_pool_max_size: int = 1000
    max_global_ratio: float = 0.7
    local_sample_coef: float = 1.0
    force_opt_current: bool = False
    force_local: bool = False
    force_global: bool = False


@dataclass(frozen=True)
class _Recon:
    blend_start_iter: int = 3000
    use_fast_forward: bool = True
    random_bg_color: bool = True
    bg_color: tuple[float, ...] = (0.0, 0.0, 0.0)
    scene_extent: float = 1.0
    position_lr: float = 8e-4
    position_lr_final: float = 8e-6
    position_lr_delay_mult: float = 0.01
    position_lr_max_steps: int = 30_000
    opacity_lr: float = 0.25
    scaling_lr: float = 0.025
    rotation_lr: float = 0.005
    feature_lr: float = 0.0125
    position_b_lr_scale: float = 0.05
    rotaion_b_lr_scale: float = 0.5  # the original's spelling
    feature_b_lr_scale: float = 0.5
    weight_module_lr: float = 1e-3
    lambda_l1: float = 1.0
    lambda_ssim: float = 0.0
    lambda_lpips: float = 0.0
    lambda_alpha: float = 0.0
    lambda_sparsity: float = 0.0
    lambda_orth: float = 0.0


@dataclass(frozen=True)
class _Train:
    batch_size: int = 10
    iteration: int = 0
    post_process: bool = False
    post_process_iteration: int = 0
    sampler: _Sampler = field(default_factory=_Sampler)
    recon: _Recon = field(default_factory=_Recon)


@dataclass(frozen=True)
class _File:
    data_dir: str = "data"
    output_dir: str = "output"
    template_type: str = "Flame"
    dataset: _Dataset = field(default_factory=_Dataset)
    model: _Model = field(default_factory=_Model)
    train: _Train = field(default_factory=_Train)


@dataclass(frozen=True)
class OriginalConfig:
    """What one of RGBAvatar's files says, in our terms.

    settings: nested values of our `TrainConfig`. data_dir, output_dir: as written. sampler: of an online file, else
    None. polish_images: images over all data after an online stream. remarks: a sentence for each key that does
    nothing here, and why.
    """

    settings: Mapping[str, Any]
    data_dir: str
    output_dir: str
    sampler: SamplerConfig | None
    polish_images: int
    remarks: tuple[str, ...]


def is_original(values: Mapping[str, Any]) -> bool:
    """Whether these are the settings of an RGBAvatar file (and not of one of ours)."""
    return any(key in values for key in MARKS)


def read_original(values: Mapping[str, Any], where: str) -> OriginalConfig:
    """RGBAvatar's settings in our terms. Counts stay images, as they are there. Raises BadConfig.

    A key that is missing has the value of the paper's INSTA configuration (method page 3.2); lambdas are 0 but l1.
    """
    file = from_mapping(_File, values, where)
    _refuse_what_is_not_here(file, where)
    model, recon, online = file.model, file.train.recon, _is_online(values)
    layout = _layout(file, where)
    images = file.train.iteration or (recon.blend_start_iter + recon.position_lr_max_steps)
    extent = recon.scene_extent**2  # the original multiplies it in twice
    settings: dict[str, Any] = {
        "description": f"RGBAvatar's {where}",
        "background": _background(recon, where),
        "size_px": AS_RECORDED_PX,
        "model": {
            "tex_size": model.tex_size,
            "blendshapes": model.num_basis_blend,
            "frame": "uv",
            "theta": layout,
            "standardised": False,
            "initial_scale_m": model.init_scaling,
            "initial_opacity": model.init_opacity,
            "first_look_px": 0,
            "fill_unseen": False,
        },
        "schedule": {
            "images": images,
            "batch": file.train.batch_size,
            "sizes_px": [AS_RECORDED_PX],
            "deltas_from": recon.blend_start_iter if model.use_blend else images,
        },
        "rates": {
            "position": recon.position_lr * extent,
            "position_final": recon.position_lr_final * extent,
            "position_until": recon.position_lr_max_steps,
            "opacity": recon.opacity_lr,
            "scale": recon.scaling_lr,
            "rotation": recon.rotation_lr,
            "colour": recon.feature_lr,
            "delta_position": recon.position_b_lr_scale,
            "delta_rotation": recon.rotaion_b_lr_scale,
            "delta_colour": recon.feature_b_lr_scale,
            "network": recon.weight_module_lr,
            "others_final": 1.0,
        },
        "losses": _losses(recon),
    }
    sampler = None
    if online:
        given = file.train.sampler
        sampler = SamplerConfig(
            ring=given.local_pool_max_size,
            pool=given.global_pool_max_size,
            max_pool_share=given.max_global_ratio,
            age_coefficient=given.local_sample_coef,
            force_newest=given.force_opt_current,
            force_ring=given.force_local,
            force_pool=given.force_global,
        )
    polish = file.train.post_process_iteration if online and file.train.post_process else 0
    return OriginalConfig(settings, file.data_dir, file.output_dir, sampler, polish, _remarks(values, file))


def _is_online(values: Mapping[str, Any]) -> bool:
    return "sampler" in values.get("train", {})


def _refuse_what_is_not_here(file: _File, where: str) -> None:
    if file.template_type != "Flame":
        raise BadConfig(
            f"{where} asks for a template that nobody may distribute",
            found=f"template_type {file.template_type}",
            expected="Flame",
            do="FuHead is FaceWarehouse's head, for which there is no free data; track the video with FLAME",
        )
    model = file.model
    if not model.use_weight_proj or not model.use_mlp_proj:
        name = "use_weight_proj" if not model.use_weight_proj else "use_mlp_proj"
        raise BadConfig(
            f"{where} turns off the weight network, which every head of Effigy has",
            found=f"model.{name} false",
            expected="true",
        )


def _layout(file: _File, where: str) -> str:
    """Name of the driving layout (`driving.LAYOUTS`); the original cuts its input to the first num_basis_in numbers."""
    data, wanted = file.dataset, file.model.num_basis_in
    if not data.use_shape_weight:
        raise BadConfig(
            f"{where} leaves the expressions out of the network's input",
            found="dataset.use_shape_weight false",
            expected="true",
        )
    size = EXPRESSION_INPUTS + (POSE_INPUTS if data.use_pose_weight else 0)
    if wanted >= size:
        return "rgbavatar" if data.use_pose_weight else "expressions"
    if wanted == EXPRESSION_INPUTS:
        return "expressions"
    raise BadConfig(
        f"{where} cuts the network's input within a group of numbers",
        found=f"model.num_basis_in {wanted}",
        expected=f"{EXPRESSION_INPUTS} (expressions) or {EXPRESSION_INPUTS + POSE_INPUTS} (all)",
    )


def _background(recon: _Recon, where: str) -> str:
    if recon.random_bg_color:
        return "random"
    colour = GROUND_COLOURS.get(recon.bg_color)
    if colour is None:
        raise BadConfig(
            f"{where} trains over a colour that Effigy does not have",
            found=f"train.recon.bg_color {list(recon.bg_color)}",
            expected="[0, 0, 0], [1, 1, 1] or random_bg_color true",
        )
    return colour


def _losses(recon: _Recon) -> dict[str, float]:
    """Weights by our names. What is 0 is left out, so that an older version's file asks for nothing new."""
    wanted = {
        "ssim": recon.lambda_ssim,
        "alpha": recon.lambda_alpha,
        "sparsity": recon.lambda_sparsity,
        "orthogonality": recon.lambda_orth,
    }
    found = {"l1": recon.lambda_l1} | {name: weight for name, weight in wanted.items() if weight}
    if recon.lambda_lpips:
        found |= {"lpips": recon.lambda_lpips, "lpips_from": LATE_PERCEPTUAL_IMAGES}
    return found


def _remarks(values: Mapping[str, Any], file: _File) -> tuple[str, ...]:
    """One sentence for each key that was given and changes nothing here."""
    given = {f"{group}.{key}" for group in ("dataset",) for key in values.get(group, {})}
    given |= {f"train.recon.{key}" for key in values.get("train", {}).get("recon", {})}
    told = {
        "dataset.pin_memory": "pictures lie on the device, or pinned where they do not fit there",
        "train.recon.use_fast_forward": "a batch is always rendered in one call",
        "train.recon.position_lr_delay_mult": "it has no effect in the original either, whose delay lasts 0 steps",
    }
    found = [f"{key} changes nothing: {why}." for key, why in told.items() if key in given]
    if not file.train.iteration and not _is_online(values):
        found.append("train.iteration is missing: training ends when the position's rate has reached its end.")
    if file.model.num_basis_in > EXPRESSION_INPUTS + POSE_INPUTS:
        found.append(f"model.num_basis_in is more than the {EXPRESSION_INPUTS + POSE_INPUTS} numbers there are.")
    return tuple(found)
