"""Opening diffusers' pipelines from folders on this machine, and what each class needs beside."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch

from avatars.text_edit.editors.weights import Found, lacking_library, read_index
from shared.errors import EnvironmentFailed

IP2P, SDXL = "StableDiffusionInstructPix2PixPipeline", "StableDiffusionXLInstructPix2PixPipeline"
COSXL_SCHEDULER = "EDMEulerScheduler"
"""Of CosXL Edit alone among SDXL's editors; diffusers keeps no other sign of it in a folder."""


def load_pipeline(found: Found, device: str, dtype: torch.dtype | None = None) -> Any:
    """A diffusers pipeline from a folder, without network. Raises EnvironmentFailed.

    dtype: of the weights, by default half precision on CUDA. Stable Diffusion's VAE overflows in half: it is in single
    for InstructPix2Pix, whose loop is ours, and raised by SDXL's own pipeline. Where a GPU is too small, parts wait in
    the machine's memory (with accelerate installed).
    """
    problem = lacking_library()
    if problem:
        raise EnvironmentFailed("the editor needs libraries that are not installed", found=problem)
    import diffusers

    if dtype is None:
        half = torch.float16 if found.kind in (IP2P, SDXL) else torch.bfloat16
        dtype = half if device.startswith("cuda") else torch.float32
    try:
        kind = getattr(diffusers, found.kind)
        pipe = kind.from_pretrained(
            str(found.folder), local_files_only=True, use_safetensors=True, dtype=dtype, **beside(found)
        )
    except (OSError, ValueError, AttributeError, ImportError, RuntimeError, TypeError) as error:
        raise EnvironmentFailed(
            f"the model in {found.folder} cannot be loaded", found=str(error).split("\n")[0][:300]
        ) from error
    pipe.set_progress_bar_config(disable=True)
    if found.kind == SDXL:
        pipe.vae.register_to_config(force_upcast=True)
    return _placed(pipe, found, device)


def _placed(pipe: Any, found: Found, device: str) -> Any:
    """The pipeline on a device, as a whole or part by part."""
    try:
        pipe = pipe.to(device)
        if found.kind == IP2P:
            pipe.vae.to(torch.float32)
    except torch.OutOfMemoryError as error:
        if find_spec("accelerate") is None:
            raise EnvironmentFailed(
                f"the model in {found.folder} does not fit into the GPU's memory",
                do="pip install accelerate, and it is moved there part by part",
            ) from error
        pipe.to("cpu")
        torch.cuda.empty_cache()
        pipe.enable_model_cpu_offload(device=device)
    return pipe


def beside(found: Found) -> dict[str, Any]:
    """What `from_pretrained` must be told beside the folder."""
    if found.kind == IP2P:
        return {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
    if found.kind == SDXL:
        scheduler = read_index(found.folder).get("scheduler", ())
        return {"is_cosxl_edit": isinstance(scheduler, list) and COSXL_SCHEDULER in scheduler}
    if found.kind.startswith("Qwen") and find_spec("torchvision") is None:
        return {"processor": _pictures_and_words(found)}
    return {}


def _pictures_and_words(found: Found) -> Any:
    """Qwen's processor without the part for films, the only one that needs torchvision."""
    from transformers import Qwen2Tokenizer, Qwen2VLProcessor
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    class WithoutFilms(Qwen2VLProcessor):  # type: ignore[misc]
        def check_argument_for_proper_class(self, _name: str, argument: object) -> type:
            """Leave the check out: it opens the classes for films."""
            return type(argument)

    folder = str(found.folder / "processor")
    return WithoutFilms(
        image_processor=Qwen2VLImageProcessorPil.from_pretrained(folder, local_files_only=True),
        tokenizer=Qwen2Tokenizer.from_pretrained(folder, local_files_only=True),
        video_processor=None,
    )
