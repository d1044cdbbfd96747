"""Diffusion editors with tiny random pipelines: the partial-noise loop, finding weights, what is refused; offline."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

pytest.importorskip("diffusers", reason='diffusion editors are tried where "effigy[edit]" is installed')

from avatars.text_edit.config import EditorSettings
from avatars.text_edit.editors import editor_facts, loading, open_editor
from avatars.text_edit.editors.ip2p import InstructPix2Pix
from avatars.text_edit.editors.loading import load_pipeline
from avatars.text_edit.editors.pictures import squared, unsquared
from avatars.text_edit.editors.weights import MODELS, find_weights, settled
from avatars.text_edit.views import Views
from shared.errors import BadConfig, EnvironmentFailed
from tests.avatars.text_edit.test_built_in import ball_head
from tests.tiny_editors import tiny_ip2p, tiny_kontext, tiny_qwen, tiny_sdxl

SETTINGS = EditorSettings(size_px=64, steps=3)


@pytest.fixture(scope="module")
def ip2p_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_ip2p(tmp_path_factory.mktemp("ip2p"))


@pytest.fixture(autouse=True)
def no_weights(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("EFFIGY_EDITOR_MODEL", raising=False)


def wide_views() -> Views:
    views = ball_head()
    return replace(
        views, images=views.images[:, 4:-4], conditions=views.conditions[:, 4:-4], alpha=views.alpha[:, 4:-4]
    )


def ready(folder: Path, settings: EditorSettings = SETTINGS) -> InstructPix2Pix:
    editor = InstructPix2Pix("cpu")
    editor.prepare("turn him into gold", replace(settings, model=str(folder)))
    return editor


def test_ip2p_edits_pictures_of_any_shape_and_repeats_by_seed(ip2p_folder: Path) -> None:
    editor, views = ready(ip2p_folder), wide_views()
    assert editor.licence == "mit"
    first, again, other = (editor.edit(views, (0.5, 0.9), torch.Generator().manual_seed(seed)) for seed in (1, 1, 2))
    assert first.shape == views.images.shape
    assert torch.isfinite(first).all()
    assert first.min() >= 0
    assert first.max() <= 1
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    none = ready(ip2p_folder, replace(SETTINGS, strength=0.0)).edit(views, (0.5, 0.9), torch.Generator())
    assert torch.allclose(none, views.images, atol=1e-6)


def test_the_loop_is_ddim_from_exactly_the_noised_level_and_finds_what_a_perfect_model_knows(
    ip2p_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = ready(ip2p_folder, replace(SETTINGS, steps=5))
    generator = torch.Generator().manual_seed(5)
    clean, fresh = (torch.randn(1, 4, 8, 8, generator=generator) for _ in range(2))
    kept = editor.pipe.scheduler.alphas_cumprod
    times: list[int] = []

    def perfect(current: torch.Tensor, _image: torch.Tensor, time: int, share: float) -> torch.Tensor:
        times.append(time)
        return (current - kept[time].sqrt() * clean) / (1 - kept[time]).sqrt()

    monkeypatch.setattr(editor, "_guided", perfect)
    found = editor.denoised(clean, clean, fresh, 700)
    assert times == [700, 560, 420, 280, 140]
    assert torch.allclose(found, clean, atol=1e-4)


def test_guidance_is_the_weighted_sum_of_the_three_predictions(
    ip2p_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    editor = ready(ip2p_folder, replace(SETTINGS, text_guidance=7.5, image_guidance=1.5))
    seen: dict[str, torch.Tensor] = {}

    class Said:
        sample = torch.tensor([3.0, 2.0, 1.0]).view(3, 1, 1, 1).expand(3, 4, 8, 8)

    def unet(model_input: torch.Tensor, time: int, encoder_hidden_states: torch.Tensor) -> Said:
        seen.update(input=model_input, text=encoder_hidden_states)
        return Said()

    unet.dtype = torch.float32  # type: ignore[attr-defined]
    monkeypatch.setattr(
        editor, "pipe", type("Pipe", (), {"unet": staticmethod(unet), "scheduler": editor.pipe.scheduler})
    )
    editor.pipe.unet.dtype = torch.float32
    image = torch.ones(1, 4, 8, 8)
    result = editor._guided(torch.zeros(1, 4, 8, 8), image, 10, 0.9)
    assert torch.allclose(result, torch.full_like(result, 1 + 7.5 * (3 - 2) + 1.5 * (2 - 1)))
    assert seen["input"][:, 4:].amax((1, 2, 3)).tolist() == [1, 1, 0]
    assert torch.equal(seen["text"][1], seen["text"][2])
    assert not torch.equal(seen["text"][0], seen["text"][1])


def test_kontext_edits_the_photo_and_keeps_the_first_as_reference(tmp_path: Path) -> None:
    folder, views = tiny_kontext(tmp_path / "kontext"), wide_views()
    editor = open_editor("flux_kontext", "cpu")
    editor.prepare("gold", replace(SETTINGS, size_px=32, steps=2, model=str(folder)))
    assert editor.rounds == "rounds"
    edited = editor.edit(views, (0.0, 1.0), torch.Generator().manual_seed(1))
    assert edited.shape == views.images.shape
    assert torch.isfinite(edited).all()
    assert not torch.equal(edited, views.conditions)


@pytest.mark.parametrize("plus", [True, False])
def test_qwen_is_shown_pictures_without_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plus: bool
) -> None:
    """Plus: the first edit goes along with the second picture. The pipelines work at a megapixel: here at 64 by 64."""
    editor, views = open_editor("qwen_edit", "cpu"), wide_views()
    folder = tiny_qwen(tmp_path, plus)
    editor.prepare("gold", replace(SETTINGS, size_px=64, steps=2, model=str(folder)))
    kind = type(editor.pipe)
    assert kind.__name__ == ("QwenImageEditPlusPipeline" if plus else "QwenImageEditPipeline")
    module = importlib.import_module(kind.__module__)
    sizes = module.calculate_dimensions
    monkeypatch.setattr(module, "calculate_dimensions", lambda area, ratio: sizes(64 * 64, ratio))
    told: list[dict[str, Any]] = []
    encode = editor.pipe.encode_prompt
    monkeypatch.setattr(editor.pipe, "encode_prompt", lambda **more: told.append(more) or encode(**more))
    two = replace(views, images=views.images.repeat(2, 1, 1, 1), conditions=views.conditions.repeat(2, 1, 1, 1))
    edited = editor.edit(two, (0.0, 1.0), torch.Generator().manual_seed(1))
    assert edited.shape == two.images.shape
    assert torch.isfinite(edited).all()
    assert (edited - two.conditions).abs().mean() > 0.01
    assert [more["prompt"] for more in told][::2] == (
        ["gold", "gold, looking the same as in picture 2"] if plus else ["gold", "gold"]
    )
    assert [len(more["image"]) for more in told] == [1, 1, 2, 2] if plus else True
    assert [more["prompt"] for more in told][1::2] == [" ", " "], "guided away from saying nothing"


@pytest.mark.parametrize("cosxl", [False, True])
def test_sdxl_follows_prompt_and_picture_in_single_and_half(tmp_path: Path, cosxl: bool) -> None:
    folder, views = tiny_sdxl(tmp_path, cosxl), wide_views()
    editor = open_editor("sdxl", "cpu")
    settings = replace(SETTINGS, steps=2, model=str(folder))

    def edit(**more: Any) -> torch.Tensor:
        editor.prepare(more.pop("prompt", "gold"), replace(settings, **more))
        return editor.edit(views, (0.0, 1.0), torch.Generator().manual_seed(1))

    edited = edit()
    assert editor.pipe.is_cosxl_edit is cosxl
    assert edited.shape == views.images.shape
    assert torch.isfinite(edited).all()
    assert torch.equal(edited, edit())
    for more in ({"prompt": "a sketch"}, {"text_guidance": 9.0}, {"image_guidance": 4.0}, {"steps": 3}):
        assert not torch.equal(edited, edit(**more)), more
    # As on a GPU: weights in half, the VAE raised to single where it would overflow.
    editor.pipe = load_pipeline(editor.found, "cpu", torch.float16)
    assert editor.pipe.unet.dtype == torch.float16
    assert (edit() - edited).abs().mean() < 0.05


def test_each_model_is_used_as_its_makers_do_unless_told() -> None:
    for name, model in MODELS.items():
        usual = settled(name, EditorSettings())
        assert (usual.steps, usual.size_px) == (model.usual.steps, model.usual.size_px)
        assert usual.text_guidance == model.usual.text_guidance
    assert settled("ip2p", EditorSettings()).image_guidance == 1.5
    assert settled("flux_kontext", EditorSettings(text_guidance=7.5)).text_guidance == 7.5
    assert len({(model.usual.steps, model.usual.size_px, model.usual.text_guidance) for model in MODELS.values()}) == 4


def test_a_model_larger_than_the_gpu_is_moved_there_in_parts_or_refused(
    ip2p_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from diffusers import StableDiffusionInstructPix2PixPipeline as Pipeline

    def full(self: Any, device: str) -> Any:
        if device != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return self

    moved: list[str] = []
    monkeypatch.setattr(Pipeline, "to", full)
    monkeypatch.setattr(Pipeline, "enable_model_cpu_offload", lambda self, device: moved.append(device))
    found = find_weights("ip2p", str(ip2p_folder))
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(EnvironmentFailed, match="pip install accelerate"):
        load_pipeline(found, "cuda", torch.float32)
    monkeypatch.setattr(loading, "find_spec", lambda name: name)
    load_pipeline(found, "cuda", torch.float32)
    assert moved == ["cuda"]


def test_weights_come_from_a_folder_the_variable_or_a_filled_cache(
    ip2p_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert find_weights("ip2p", str(ip2p_folder)).licence == "mit"
    monkeypatch.setenv("EFFIGY_EDITOR_MODEL", str(ip2p_folder))
    assert find_weights("ip2p").folder == ip2p_folder
    with pytest.raises(EnvironmentFailed, match="no weights of FLUX"):
        find_weights("flux_kontext")  # the variable names another kind
    monkeypatch.delenv("EFFIGY_EDITOR_MODEL")
    base = tmp_path / "hub" / "models--timbrooks--instruct-pix2pix"
    (base / "refs").mkdir(parents=True)
    (base / "refs" / "main").write_text("abcdef12")
    shutil.copytree(ip2p_folder, base / "snapshots" / "abcdef12")
    for asked in ("", "timbrooks/instruct-pix2pix"):
        assert find_weights("ip2p", asked).folder == base / "snapshots" / "abcdef12"
        assert find_weights("ip2p", asked).name == "timbrooks/instruct-pix2pix"
    facts = {fact.name: fact for fact in editor_facts()}
    assert set(facts) == {"built_in", *MODELS}
    assert facts["ip2p"].installed
    assert facts["ip2p"].licence == "mit"
    assert "no weights" in facts["sdxl"].problem


def test_what_cannot_be_used_is_told_in_a_sentence(ip2p_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(EnvironmentFailed, match=r"no weights of InstructPix2Pix.*built_in needs none"):
        find_weights("ip2p")
    with pytest.raises(EnvironmentFailed, match="not in the hub's cache"):
        find_weights("ip2p", "somebody/something")
    with pytest.raises(BadConfig, match="no diffusers pipeline"):
        find_weights("ip2p", str(tmp_path))
    with pytest.raises(BadConfig, match="Choose the editor ip2p"):
        find_weights("sdxl", str(ip2p_folder))
    broken = tmp_path / "broken"
    shutil.copytree(ip2p_folder, broken)
    (broken / "vae" / "diffusion_pytorch_model.safetensors").rename(broken / "vae" / "diffusion_pytorch_model.bin")
    with pytest.raises(BadConfig, match="pickles"):
        find_weights("ip2p", str(broken))
    shutil.rmtree(broken / "unet")
    with pytest.raises(BadConfig, match=r"missing.*unet"):
        find_weights("ip2p", str(broken))
    (broken / "model_index.json").write_text(json.dumps(["nothing"]))
    with pytest.raises(BadConfig, match="no diffusers pipeline"):
        find_weights("ip2p", str(broken))


def test_squares_hold_the_whole_picture_and_give_it_back() -> None:
    images = torch.rand(1, 20, 33, 3, generator=torch.Generator().manual_seed(1))
    square = squared(images, torch.tensor([1.0, 1.0, 1.0]), 33)
    assert square.shape == (1, 3, 33, 33)
    assert torch.equal(square[0, :, 0], torch.ones(3, 33))
    assert torch.allclose(unsquared(square, 20, 33), images, atol=1e-6)
