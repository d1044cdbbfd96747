"""All that decides an implicit teacher, with the numbers of the method page (C.1 to C.4) as defaults.

Positions in the schedule are steps: a step is one picture, from which rays are drawn.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from shared.errors import BadConfig


@dataclass(frozen=True)
class GridSettings:
    """Multi-resolution hash grids (Mueller et al. 2022). levels x features numbers a point, tables of 2^table_log2.

    start_levels are open from the beginning, one more from step opens_from on every opens_every steps.
    """

    levels: int = 16
    features: int = 2
    table_log2: int = 19
    base: int = 16
    growth: float = 1.4473
    start_levels: int = 4
    opens_from: int = 500
    opens_every: int = 125


@dataclass(frozen=True)
class FieldSettings:
    """Networks. start: the first surface is a 'sphere' of sphere_radius half boxes, or fitted to the 'template' in
    start_steps steps, which needs far fewer pictures. box_scale: canonical bounds times this are the box."""

    grid: GridSettings = field(default_factory=GridSettings)
    width: int = 64
    geometry_layers: int = 1
    geometry_features: int = 13
    colour_layers: int = 2
    sphere_radius: float = 0.5
    start: Literal["sphere", "template"] = "sphere"
    start_steps: int = 200
    beta: float = 0.3
    box_scale: float = 1.2


@dataclass(frozen=True)
class ArticulationSettings:
    """Canonical places of posed points. volume: the weight volume's side in voxels, a quarter as many in depth; weights
    are of so many nearest vertices, smoothed in smoothings passes that keep the part smoothing of what differs.

    parts: so many of the nearest body parts offer a start for each point; guide: side of the grid that knows them, made
    of guide_vertices of the template. Broyden's method takes up to `iterations` steps or until all are within
    converged_m; places off by more than accepted_m count as empty, as does what is farther than near_template_m.
    """

    volume: int = 128
    neighbours: int = 30
    smoothings: int = 30
    smoothing: float = 0.7
    parts: int = 3
    guide: int = 32
    guide_vertices: int = 2000
    iterations: int = 20
    converged_m: float = 1e-5
    accepted_m: float = 1e-3
    near_template_m: float = 0.12


@dataclass(frozen=True)
class MarchSettings:
    """Rays. coarse_steps: the posed box's diagonal over this is a step; from fine_from on fine_rounds times fine_steps
    samples follow the weights. occupancy: side of the grid, refreshed every occupancy_every steps, anew at
    occupancy_anew."""

    rays: int = 4096
    inside_share: float = 0.6
    edge_share: float = 0.3
    edge_px: int = 16
    coarse_steps: int = 128
    fine_rounds: int = 2
    fine_steps: int = 16
    fine_from: int = 1000
    occupancy: int = 64
    occupancy_threshold: float = 1e-3
    occupancy_decay: float = 0.8
    occupancy_every: int = 16
    occupancy_anew: int = 8000


@dataclass(frozen=True)
class LightSettings:
    """Physically based shading. rows x columns directions a ray; rays: how many of a step's are shaded.

    sampling: 'importance' draws directions by light, cosine and gloss together, 'even' stratifies the sphere as
    published. cell_m: in pictures, what is in a light's way is asked of a lattice of the pose with such cells;
    training_cell_m: the same in training, which makes a lattice a step; 0: of the fields, as published.
    far_m: how far a secondary ray looks, in coarse steps and then fine ones. lobes of the learned light, or with kind
    'latlong' a picture of height rows. bends: whether what shading wants reaches the shape as well as the materials.
    """

    kind: Literal["lobes", "latlong"] = "lobes"
    lobes: int = 64
    height: int = 16
    energy: float = 0.8
    starts_at: int = 10000
    rays: int = 128
    rows: int = 16
    columns: int = 32
    sampling: Literal["importance", "even"] = "importance"
    cell_m: float = 0.01
    training_cell_m: float = 0.02
    far_m: float = 1.5
    coarse_steps: int = 64
    fine_steps: int = 4
    bounce: bool = True
    bends: bool = True


@dataclass(frozen=True)
class TeacherLosses:
    """Weights (C.4). curvature falls to 0 at curvature_until and looks curvature_step half boxes along the surface.

    Angles below 1.4e-3 rad have no slope, so with the published step only sharp bends count. lipschitz counts from
    lipschitz_from on. prior, metal_prior: how much rough and unmetallic surfaces are preferred.
    """

    radiance: float = 1.0
    shaded: float = 0.2
    mask: float = 0.1
    eikonal: float = 0.1
    curvature: float = 1.5
    curvature_until: int = 12500
    curvature_step: float = 1e-4
    lipschitz: float = 1e-5
    lipschitz_from: int = 12500
    smoothness: float = 0.01
    prior: float = 0.0
    metal_prior: float = 0.0
    jitter_m: float = 0.01
    grid_decay: float = 1e-4


@dataclass(frozen=True)
class TeacherRates:
    """Adam: rate, reached after warm_up steps from warm_up_share of it; times drop at each of drops."""

    rate: float = 1e-3
    warm_up: int = 1000
    warm_up_share: float = 0.01
    drop: float = 0.3
    drops: tuple[int, ...] = (12500, 18750, 22500, 23750)


@dataclass(frozen=True)
class PoseSettings:
    """Poses of the recording are corrected from step starts_at on, where `correct`.

    PART_JOINTS turn and the body shifts, at `rate` rad and m a step; weight holds them near what was recorded (mean of
    squares).
    """

    correct: bool = False
    starts_at: int = 4000
    rate: float = 1e-4
    weight: float = 1.0


@dataclass(frozen=True)
class TeacherConfig:
    """An implicit teacher. mesh_resolution: cells along the longest side of its mesh. evaluated_images: how many
    held-out pictures it is measured on. fused: torch compiles the networks and the shading of training (about a minute
    at the start), for long runs on a CUDA device."""

    fields: FieldSettings = field(default_factory=FieldSettings)
    articulation: ArticulationSettings = field(default_factory=ArticulationSettings)
    march: MarchSettings = field(default_factory=MarchSettings)
    light: LightSettings = field(default_factory=LightSettings)
    losses: TeacherLosses = field(default_factory=TeacherLosses)
    rates: TeacherRates = field(default_factory=TeacherRates)
    poses: PoseSettings = field(default_factory=PoseSettings)
    mesh_resolution: int = 512
    evaluated_images: int = 4
    fused: bool = False


def check_teacher(config: TeacherConfig) -> None:
    """Refuse values that make no sense. Raises BadConfig."""
    grid, march = config.fields.grid, config.march
    for name, value, low, high in (
        ("fields.grid.levels", grid.levels, 1, 32),
        ("fields.grid.features", grid.features, 1, 8),
        ("fields.grid.table_log2", grid.table_log2, 4, 24),
        ("fields.grid.base", grid.base, 2, 1024),
        ("fields.grid.growth", grid.growth, 1.0, 4.0),
        ("fields.width", config.fields.width, 1, 4096),
        ("fields.geometry_layers", config.fields.geometry_layers, 1, 8),
        ("articulation.volume", config.articulation.volume, 4, 512),
        ("articulation.parts", config.articulation.parts, 1, 64),
        ("articulation.guide", config.articulation.guide, 2, 256),
        ("march.rays", march.rays, 1, 1 << 20),
        ("march.coarse_steps", march.coarse_steps, 2, 4096),
        ("march.inside_share", march.inside_share, 0.0, 1.0),
        ("march.edge_share", march.edge_share, 0.0, 1.0 - march.inside_share),
        ("march.occupancy", march.occupancy, 2, 512),
        ("light.lobes", config.light.lobes, 1, 4096),
        ("light.rays", config.light.rays, 1, 1 << 20),
        ("light.rows", config.light.rows, 1, 1024),
        ("light.columns", config.light.columns, 1, 1024),
        ("light.cell_m", config.light.cell_m, 0.002, 0.2),
        ("light.training_cell_m", config.light.training_cell_m or 0.02, 0.002, 0.2),
        ("mesh_resolution", config.mesh_resolution, 8, 1024),
    ):
        if not low <= value <= high + 1e-9:
            raise BadConfig(f"teacher.{name} is out of range", found=str(value), expected=f"{low} to {high}")
