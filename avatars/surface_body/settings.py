"""All that decides a signed-distance body (method page 12 and 14). Times are shares: of the schedule for `stages`, of
their own stage for everything else, so that a longer run is the same course drawn out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from avatars.relit_field.settings import GridSettings
from avatars.surface_body.face_settings import FaceSettings, check_faces
from avatars.surface_body.mesh_settings import MeshStageSettings, check_mesh_stage
from avatars.surface_body.parity_settings import ParitySettings, check_parity
from avatars.surface_body.plane_settings import PlaneSettings, check_planes
from shared.errors import BadConfig


@dataclass(frozen=True)
class StarSettings:
    """The canonical body. hips_deg: both legs turned outwards. base_spacing_m: of the template's distance grid;
    margin_m: how far the canonical box reaches beyond the template, which what is learned must not."""

    hips_deg: float = 45.0
    base_spacing_m: float = 0.008
    margin_m: float = 0.25


@dataclass(frozen=True)
class SurfaceFieldSettings:
    """The learned distance and colours. encoder: what describes a place to the networks, hash grids (`grid`) or
    tri-planes (surface.planes).

    delta_max_m: how far the surface may leave the template's distance. Levels of the grids open one after the other
    until levels_until of the stage.
    """

    encoder: Literal["hash", "planes"] = "hash"
    grid: GridSettings = field(default_factory=lambda: GridSettings(base=24, growth=1.32, levels=14))
    start_levels: int = 5
    levels_until: float = 0.45
    delta_max_m: float = 0.10
    width: int = 64
    layers: int = 2
    features: int = 15
    colour_layers: int = 2
    sharpness: float = 60.0


@dataclass(frozen=True)
class DeformationSettings:
    """Skinning everywhere. weights: the template's on a grid with a learned change, or a network alone (its size is
    that of surface.parity.networks). cells: voxels of the base weights along the box's longest side; residual_cells:
    of what is learned of them. smoothings: passes over the base weights. iterations: fixed-point steps; starts: so
    many body parts offer one each, of which the innermost root counts; guide: cells of the posed grid along its longest
    side; guide_vertices: of the template, which it knows."""

    weights: Literal["grid", "network"] = "grid"
    cells: int = 96
    residual_cells: int = 32
    smoothings: int = 8
    iterations: int = 3
    starts: int = 2
    guide: int = 64
    guide_vertices: int = 3000


@dataclass(frozen=True)
class SamplingSettings:
    """rays a step in all pictures together, of which inside_share inside the mask and edge_share within edge_px of its
    edge (at 512 px). shell_m: samples lie within so much of the posed template. probes: places along a ray at which its
    inside is looked for; coarse samples find the surface, fine ones are drawn where it is, spread of them evenly."""

    rays: int = 8192
    inside_share: float = 0.5
    edge_share: float = 0.25
    edge_px: int = 8
    shell_m: float = 0.06
    probes: int = 96
    coarse: int = 32
    fine: int = 24
    spread: float = 0.25


@dataclass(frozen=True)
class VolumeLosses:
    """Weights of the volumetric stage. eikonal and delta fall to their *_late value at half of the stage. hull: samples
    of rays that must see nothing may not lie inside. bumps: change of the gradient over bumps_m. weights: how far the
    learned skinning may leave the template's."""

    colour: float = 1.0
    mask: float = 0.1
    eikonal: float = 0.1
    eikonal_late: float = 0.02
    hull: float = 0.5
    delta: float = 0.02
    delta_late: float = 0.002
    bumps: float = 0.01
    bumps_m: float = 0.004
    weights: float = 0.01
    poses: float = 0.01


@dataclass(frozen=True)
class VolumeRates:
    """Adam: rates of grids, networks, sharpness and skinning; they rise over warm_up and end at `final` of them."""

    grid: float = 1e-2
    network: float = 1e-3
    sharpness: float = 1e-3
    skinning: float = 1e-3
    warm_up: float = 0.02
    final: float = 0.05


@dataclass(frozen=True)
class PoseSettings:
    """Poses of the recording are corrected, where `refine`, from `start` of the volumetric stage on. temporal: weight
    of second differences between neighbouring frames."""

    refine: bool = True
    start: float = 0.15
    rate: float = 5e-4
    temporal: float = 0.01


@dataclass(frozen=True)
class StageShares:
    """Of the schedule: in volumes, then as a mesh; what is left trains Gaussians on its faces."""

    volume: float = 0.45
    mesh: float = 0.35


@dataclass(frozen=True)
class SurfaceConfig:
    """A signed-distance body. resolution: cells along the canonical box's longest side when its mesh is taken, which
    then has about `faces` triangles at most; in paint_steps its texture takes the field's colours. keep_field: store
    the field beside the mesh, for pictures and meshes of it. record: replay steps of the volumetric stage as CUDA
    graphs."""

    star: StarSettings = field(default_factory=StarSettings)
    fields: SurfaceFieldSettings = field(default_factory=SurfaceFieldSettings)
    planes: PlaneSettings = field(default_factory=PlaneSettings)
    deformation: DeformationSettings = field(default_factory=DeformationSettings)
    sampling: SamplingSettings = field(default_factory=SamplingSettings)
    losses: VolumeLosses = field(default_factory=VolumeLosses)
    rates: VolumeRates = field(default_factory=VolumeRates)
    poses: PoseSettings = field(default_factory=PoseSettings)
    stages: StageShares = field(default_factory=StageShares)
    parity: ParitySettings = field(default_factory=ParitySettings)
    resolution: int = 384
    faces: int = 100_000
    paint_steps: int = 250
    keep_field: bool = True
    record: bool = True
    mesh: MeshStageSettings = field(default_factory=MeshStageSettings)
    gaussians: FaceSettings = field(default_factory=FaceSettings)


def check_surface(config: SurfaceConfig) -> None:
    """Refuse values that make no sense. Raises BadConfig."""
    check_mesh_stage(config.mesh)
    check_faces(config.gaussians)
    grid, sampling = config.fields.grid, config.sampling
    check_planes(config.planes)
    check_parity(config.parity)
    for name, value, low, high in (
        ("star.hips_deg", config.star.hips_deg, 0, 80),
        ("star.base_spacing_m", config.star.base_spacing_m, 0.002, 0.1),
        ("star.margin_m", config.star.margin_m, sampling.shell_m, 2.0),
        ("fields.grid.levels", grid.levels, 1, 32),
        ("fields.grid.features", grid.features, 1, 8),
        ("fields.grid.table_log2", grid.table_log2, 4, 24),
        ("fields.grid.base", grid.base, 2, 1024),
        ("fields.grid.growth", grid.growth, 1.0, 4.0),
        ("fields.start_levels", config.fields.start_levels, 1, 32),
        ("fields.levels_until", config.fields.levels_until, 0, 1),
        ("fields.delta_max_m", config.fields.delta_max_m, 0.001, 1.0),
        ("fields.width", config.fields.width, 1, 4096),
        ("fields.layers", config.fields.layers, 1, 8),
        ("fields.features", config.fields.features, 1, 1024),
        ("fields.colour_layers", config.fields.colour_layers, 1, 8),
        ("fields.sharpness", config.fields.sharpness, 1, 1e5),
        ("deformation.cells", config.deformation.cells, 4, 512),
        ("deformation.residual_cells", config.deformation.residual_cells, 2, 256),
        ("deformation.iterations", config.deformation.iterations, 1, 32),
        ("deformation.starts", config.deformation.starts, 1, 8),
        ("deformation.guide", config.deformation.guide, 4, 256),
        ("deformation.guide_vertices", config.deformation.guide_vertices, 16, 1 << 20),
        ("sampling.rays", sampling.rays, 1, 1 << 20),
        ("sampling.inside_share", sampling.inside_share, 0, 1),
        ("sampling.edge_share", sampling.edge_share, 0, 1 - sampling.inside_share),
        ("sampling.shell_m", sampling.shell_m, 0.005, 1.0),
        ("sampling.probes", sampling.probes, 8, 4096),
        ("sampling.coarse", sampling.coarse, 2, 4096),
        ("sampling.fine", sampling.fine, 2, 4096),
        ("sampling.spread", sampling.spread, 0.01, 1),
        ("losses.bumps_m", config.losses.bumps_m, 1e-4, 0.1),
        ("rates.warm_up", config.rates.warm_up, 0, 1),
        ("rates.final", config.rates.final, 1e-6, 1),
        ("poses.start", config.poses.start, 0, 1),
        ("stages.volume", config.stages.volume, 0.01, 1),
        ("stages.mesh", config.stages.mesh, 0, 1 - config.stages.volume),
        ("resolution", config.resolution, 16, 2048),
        ("faces", config.faces, 100, 1 << 22),
        ("paint_steps", config.paint_steps, 1, 1 << 16),
    ):
        if not low <= value <= high + 1e-9:
            raise BadConfig(f"surface.{name} is out of range", found=str(value), expected=f"{low:g} to {high:g}")
