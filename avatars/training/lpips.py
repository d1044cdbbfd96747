"""LPIPS with VGG-16 features (Zhang et al., CVPR 2018), on weight files the user has; none ship with Effigy.

Two files: torchvision's VGG-16 checkpoint (`vgg16-397923af.pth`, ImageNet; its own terms) and the linear weights of the
`lpips` package, version 0.1 (`weights/v0.1/vgg.pth`, BSD-2). They are looked for in the folder of a setting, in torch's
hub cache, and inside an installed `lpips` package, and read with weights_only.
"""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import torch
from torch import Tensor, nn

from avatars.training.ssim import check_images
from shared.errors import BadConfig

log = logging.getLogger("effigy.training")
VGG_NAMES = ("vgg16-397923af.pth", "vgg16.pth")
LINEAR_NAMES = ("lpips_vgg.pth", "vgg.pth")
MAX_FILE_BYTES = 1 << 30
STAGES = (  # convolutions of VGG-16 by torchvision's index: (index, inputs, outputs); a stage ends before a pooling
    ((0, 3, 64), (2, 64, 64)),
    ((5, 64, 128), (7, 128, 128)),
    ((10, 128, 256), (12, 256, 256), (14, 256, 256)),
    ((17, 256, 512), (19, 512, 512), (21, 512, 512)),
    ((24, 512, 512), (26, 512, 512), (28, 512, 512)),
)
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)  # of images in -1..1, as the weights were trained
EPSILON = 1e-10


class Lpips(nn.Module):
    """The distance, as a module without trainable parameters.

    vgg: state dict with `features.N.weight` [O, I, 3, 3] and `features.N.bias`; linear: with `linS.model.1.weight`
    [1, C, 1, 1] for the five stages. Raises BadConfig for missing or misshapen tensors.
    """

    def __init__(self, vgg: Mapping[str, Tensor], linear: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.stages = nn.ModuleList()
        for stage in STAGES:
            layers: list[nn.Module] = []
            for index, inputs, outputs in stage:
                layer = nn.Conv2d(inputs, outputs, 3, padding=1)
                weight = _tensor(vgg, f"features.{index}.weight", (outputs, inputs, 3, 3))
                bias = _tensor(vgg, f"features.{index}.bias", (outputs,))
                layer.weight, layer.bias = nn.Parameter(weight), nn.Parameter(bias)
                layers += [layer, nn.ReLU()]
            self.stages.append(nn.Sequential(*layers))
        self.linear = nn.ParameterList(
            _tensor(linear, f"lin{k}.model.1.weight", (1, stage[-1][2], 1, 1)).flatten()
            for k, stage in enumerate(STAGES)
        )
        self.register_buffer("shift", torch.tensor(SHIFT).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False)

    def forward(self, images: Tensor, targets: Tensor) -> Tensor:
        """Distance of each pair, [B], of [B, H, W, 3] in 0..1, display-encoded; sides of 16 px and more.

        Differentiable by `images` only. Raises EffigyError for images that do not fit each other.
        """
        check_images(images, targets)
        with torch.no_grad():
            wanted = self._features(targets.detach())
        total = images.new_zeros(len(images))
        for found, kept, weight in zip(self._features(images), wanted, self.linear, strict=True):
            total = total + torch.einsum("bchw,c->bhw", (found - kept).square(), weight).mean(dim=(1, 2))
        return total

    def _features(self, images: Tensor) -> list[Tensor]:
        x = ((images.permute(0, 3, 1, 2) * 2 - 1) - self.shift) / self.scale
        found = []
        for k, stage in enumerate(self.stages):
            x = stage(nn.functional.max_pool2d(x, 2) if k else x)
            length = (x.square().sum(dim=1, keepdim=True) + EPSILON**2).sqrt()  # the addend keeps its gradient finite
            found.append(x / (length + EPSILON))
        return found


def _tensor(values: Mapping[str, Tensor], name: str, shape: tuple[int, ...]) -> Tensor:
    value = values.get(name)
    if not isinstance(value, Tensor) or tuple(value.shape) != shape:
        found = "nothing" if value is None else str(list(getattr(value, "shape", ())))
        raise BadConfig(f"the LPIPS weights lack {name}", found=found, expected=str(list(shape)))
    return value.detach().to(torch.float32)


def weight_files(folder: str = "") -> tuple[Path | None, Path | None]:
    """The VGG-16 checkpoint and the linear weights on this machine, each None where it is not found."""
    hub = Path(torch.hub.get_dir()) / "checkpoints"
    places = [Path(folder).expanduser()] if folder else []
    package = importlib.util.find_spec("lpips")
    inside = (
        [Path(place) / "weights" / "v0.1" for place in (package.submodule_search_locations or [])] if package else []
    )
    vgg = [place / name for place in [*places, hub] for name in VGG_NAMES]
    linear = [place / name for place in [*places, hub] for name in LINEAR_NAMES]
    linear += [place / "vgg.pth" for place in inside]
    return next(filter(Path.is_file, vgg), None), next(filter(Path.is_file, linear), None)


@cache
def find_lpips(folder: str, device: torch.device | str) -> Lpips | None:
    """The network on `device`, or None where a weight file is absent, which is logged once. Raises BadConfig."""
    vgg, linear = weight_files(folder)
    if vgg is None or linear is None:
        absent = [name for path, name in ((vgg, VGG_NAMES[0]), (linear, LINEAR_NAMES[0])) if path is None]
        log.warning("LPIPS is left out: there is no %s; other perceptual terms go on", " and no ".join(absent))
        return None
    return Lpips(read_weights(vgg), read_weights(linear)).to(device).eval()


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Named tensors of a torch file, read as data alone. Raises BadConfig."""
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise BadConfig(f"{path.name} is too large for weights", found=f"{path.stat().st_size} bytes")
        values = torch.load(path, map_location="cpu", weights_only=True)
    except BadConfig:
        raise
    except Exception as error:  # torch raises many kinds for a damaged file
        raise BadConfig(f"{path.name} cannot be read as weights", found=str(error).partition("\n")[0]) from error
    if not isinstance(values, Mapping):
        raise BadConfig(f"{path.name} holds no named weights", found=type(values).__name__)
    return values
