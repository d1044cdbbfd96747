"""What decides the published method as it was (method page 3 to 7). Times are shares of its 300,000 steps."""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.errors import BadConfig


@dataclass(frozen=True)
class ParityNetworks:
    """Units and hidden layers of the decoder of distances, of colours, skinning weights and corrections of poses.

    opens: from when until when the octaves of the encodings join. sharpness: v of exp(10 v) at the start, 1/m.
    skin_fit: so many steps bring the skinning network near the template's weights before training (published: none).
    """

    width: int = 256
    layers: int = 3
    features: int = 256
    colour_layers: int = 4
    skin_width: int = 128
    skin_layers: int = 4
    skin_fit: int = 0
    pose_width: int = 256
    pose_layers: int = 4
    opens: tuple[float, float] = (0.1, 0.5)
    sharpness: float = 0.3


@dataclass(frozen=True)
class ParitySampling:
    """patches of patch_px squares a picture, of which inside_share have their middle on the mask; samples along each
    ray within surface.sampling.shell_m of the posed template, found at `probes` places of its way through the box.

    shell_m: what is farther from the template at rest shows nothing. box_m: around the posed vertices. neighbours:
    vertices whose weights a place starts with; iterations: of the way back to the canonical body. chunk: places at
    once, which is a matter of memory alone.
    """

    patches: int = 4
    patch_px: int = 32
    inside_share: float = 0.8
    samples: int = 128
    probes: int = 128
    shell_m: float = 0.05
    box_m: float = 0.06
    neighbours: int = 10
    iterations: int = 3
    chunk: int = 1 << 18


@dataclass(frozen=True)
class ParityLosses:
    """Weights. The mask's sharpness doubles at each of mask_doubles; skinning ends at skinning_until."""

    rgb: float = 10.0
    perceptual: float = 1.0
    mse: float = 1.0
    nssim: float = 1.0
    eikonal: float = 0.1
    skinning: float = 1.0
    skinning_until: float = 1 / 6
    skinning_decay: float = 0.0
    mask: float = 1.0
    mask_sharpness: float = 50.0
    mask_doubles: tuple[float, ...] = (1 / 30, 2 / 30, 3 / 30, 4 / 30, 5 / 30)
    annealed: float = 1 / 6


@dataclass(frozen=True)
class ParityRates:
    """Adam: everything, and skinning weights; `final` of them is left at the end, of that of poses (surface.poses) too.

    poses_from: when poses begin to be corrected.
    """

    rate: float = 5e-4
    skinning: float = 1e-4
    final: float = 0.871
    poses_from: float = 0.2


@dataclass(frozen=True)
class ParitySettings:
    """The published course in place of the volumetric stage, where `wanted`."""

    wanted: bool = False
    networks: ParityNetworks = field(default_factory=ParityNetworks)
    sampling: ParitySampling = field(default_factory=ParitySampling)
    losses: ParityLosses = field(default_factory=ParityLosses)
    rates: ParityRates = field(default_factory=ParityRates)


def check_parity(settings: ParitySettings) -> None:
    """Refuse values that make no sense. Raises BadConfig."""
    networks, sampling, rates = settings.networks, settings.sampling, settings.rates
    for name, value, low, high in (
        ("networks.width", min(networks.width, networks.skin_width, networks.pose_width), 4, 4096),
        ("networks.layers", min(networks.layers, networks.colour_layers, networks.skin_layers), 1, 16),
        ("networks.features", networks.features, 1, 1024),
        ("networks.opens", networks.opens[0], 0, networks.opens[1]),
        ("networks.skin_fit", networks.skin_fit, 0, 100000),
        ("networks.sharpness", networks.sharpness, 0.01, 1.0),
        ("sampling.patches", sampling.patches, 1, 1024),
        ("sampling.patch_px", sampling.patch_px, 4, 512),
        ("sampling.inside_share", sampling.inside_share, 0, 1),
        ("sampling.samples", sampling.samples, 4, 1024),
        ("sampling.probes", sampling.probes, 8, 1024),
        ("sampling.shell_m", sampling.shell_m, 0.005, 1.0),
        ("sampling.box_m", sampling.box_m, 0, 1.0),
        ("sampling.neighbours", sampling.neighbours, 1, 64),
        ("sampling.iterations", sampling.iterations, 1, 32),
        ("sampling.chunk", sampling.chunk, 256, 1 << 24),
        ("losses.mask_sharpness", settings.losses.mask_sharpness, 1, 1e6),
        ("losses.annealed", settings.losses.annealed, 0, 1),
        ("rates.final", rates.final, 1e-6, 1),
        ("rates.poses_from", rates.poses_from, 0, 1),
    ):
        if not low <= value <= high + 1e-9:
            raise BadConfig(
                f"surface.parity.{name} is out of range", found=f"{value:g}", expected=f"{low:g} to {high:g}"
            )
