"""All that decides an edit, as frozen dataclasses: part `edit` of a `TrainConfig` whose method is text_edit."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shared.errors import BadConfig


@dataclass(frozen=True)
class EditorSettings:
    """What an editor of pictures is told beside the prompt.

    strength: 0..1, how much of the edit; text_guidance, image_guidance: how closely diffusion follows the prompt and
    keeps to the picture; steps: of denoising; size_px: longest side a diffusion model sees; 0 of these four is what the
    model's makers use (`editors.weights.MODELS`). model: a folder of weights, or their name in the hub's cache; ""
    takes what is found. region: comma-separated names, "" for everywhere.
    """

    strength: float = 0.8
    text_guidance: float = 0.0
    image_guidance: float = 0.0
    steps: int = 0
    size_px: int = 0
    model: str = ""
    region: str = ""
    seed: int = 0


@dataclass(frozen=True)
class EditRates:
    """Adam's learning rates by what a number means, the same for all methods of avatar; 0 leaves it as it is.

    deltas: factor on the rates of what changes with expression or pose (blendshapes, bases); 0 freezes them.
    """

    position: float = 5e-5
    colour: float = 1e-2
    view_colour: float = 5e-4
    opacity: float = 5e-2
    scale: float = 5e-3
    rotation: float = 1e-3
    deltas: float = 0.0
    discriminator: float = 1e-3


@dataclass(frozen=True)
class EditWeights:
    """Weights of the terms (method page A.4); 0 leaves one out.

    Against the edited picture: l1, lpips where its weights are at hand, else structure (1 - SSIM over scales) and
    gradient in its place. Inside the mouth, against what was there before: mouth_l1, mouth_ssim, by the mask's area.
    position, scale: beyond position_limit_m from the start, and beyond scale_limit times the start. adversarial: of
    the avatar's side; r1: of the discriminator, every 16 steps.
    """

    l1: float = 10.0
    lpips: float = 10.0
    structure: float = 2.0
    gradient: float = 2.0
    mouth_l1: float = 10.0
    mouth_ssim: float = 2.0
    position: float = 0.01
    position_limit_m: float = 0.004
    scale: float = 1.0
    scale_limit: float = 1.6
    adversarial: float = 3.0
    r1: float = 1.0
    lpips_folder: str = ""


@dataclass(frozen=True)
class EditConfig:
    """One edit of one avatar.

    prompt: what is to change. editor: a name of `editors.TABLE`. avatar: the folder that is edited; parent: its digest.
    capture: how its views are chosen ("" : cameras around it and motions of its template).
    wabe: 'exact' (pictures blended by visibility), 'mask' and 'hard_mask' (steps scaled by visibility, or only of what
    is seen) or 'off'; beta: how fast hidden Gaussians lose their say. gate: 'hard' (a Gaussian inside the region moves,
    others do not), 'soft' (by its share) or 'off'.
    weights_file: .npy or .npz with a weight for each vertex of the avatar's proxy mesh, painted in Blender.
    keep_mouth: no gradient from the edit to what is inside the mouth. adversarial: damp the disagreement of edits;
    adversary: by what its discriminator is shown (`adversary`; 'edits' is the published one, 'instants' is what lowers
    flicker); adversarial_from: share of the run at which it joins; adversary_warm_up: steps that it learns alone;
    crop_px: of the discriminator, 0 for whole pictures.
    rounds: of editors that edit all views at once; edit_interval: steps between edits of the cache; edits_per_update:
    pictures edited at once; max_edit_views: size of the cache; cache off edits each picture whenever it comes.
    noise_*: from and to of the noise level, the latter falls to noise_high_final over the run. late_structure: share of
    the run after which structure takes LPIPS's place (1: never). around_views: of the avatar itself, from where the
    capture has no camera (at most a quarter of all). instants: how many instants of a motion are shown, orbit_cameras:
    around it, where there is no capture.
    """

    prompt: str = ""
    editor: str = "built_in"
    avatar: str = ""
    parent: str = ""
    capture: str = ""
    settings: EditorSettings = field(default_factory=EditorSettings)
    rates: EditRates = field(default_factory=EditRates)
    weights: EditWeights = field(default_factory=EditWeights)
    wabe: Literal["exact", "mask", "hard_mask", "off"] = "exact"
    beta: float = 6.0
    gate: Literal["hard", "soft", "off"] = "soft"
    weights_file: str = ""
    keep_mouth: bool = True
    adversarial: bool = False
    adversary: Literal["instants", "edits"] = "instants"
    adversarial_from: float = 0.2
    adversary_warm_up: int = 20
    crop_px: int = 256
    rounds: int = 3
    edit_interval: int = 10
    edits_per_update: int = 1
    max_edit_views: int = 96
    cache: bool = True
    noise_low: float = 0.02
    noise_high: float = 0.98
    noise_high_final: float = 0.5
    late_structure: float = 1.0
    around_views: int = 16
    instants: int = 24
    orbit_cameras: int = 12


def check_edit_config(config: EditConfig) -> None:
    """Refuse values that make no sense. Raises BadConfig."""
    settings = config.settings
    for name, value, low, high in (
        ("strength", settings.strength, 0.0, 1.0),
        ("text_guidance", settings.text_guidance, 0.0, 50.0),
        ("image_guidance", settings.image_guidance, 0.0, 50.0),
        ("steps", settings.steps, 0, 1000),
        ("editor size_px", settings.size_px, 64 if settings.size_px else 0, 4096),
        ("beta", config.beta, 0.0, 100.0),
        ("adversarial_from", config.adversarial_from, 0.0, 1.0),
        ("rounds", config.rounds, 1, 100),
        ("edit_interval", config.edit_interval, 1, 1_000_000),
        ("edits_per_update", config.edits_per_update, 1, 64),
        ("max_edit_views", config.max_edit_views, 1, 4096),
        ("noise_low", config.noise_low, 0.0, 1.0),
        ("noise_high", config.noise_high, config.noise_low, 1.0),
        ("noise_high_final", config.noise_high_final, config.noise_low, 1.0),
        ("around_views", config.around_views, 0, 1000),
        ("instants", config.instants, 1, 10_000),
        ("orbit_cameras", config.orbit_cameras, 1, 1000),
    ):
        if not low <= value <= high:
            raise BadConfig(f"{name} of an edit is out of range", found=f"{value:g}", expected=f"{low:g} to {high:g}")


def check_prompted(config: EditConfig) -> None:
    """Refuse an edit that says nothing. Raises BadConfig."""
    if not config.prompt.strip():
        raise BadConfig("the edit has no prompt", do='Say what is to change, for example "golden hair"')
