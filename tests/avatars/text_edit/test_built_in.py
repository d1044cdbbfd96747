"""The built-in editor: its vocabulary, what it refuses, and that looks stick to the person."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import pytest
import torch
from torch import Tensor

from avatars.rendering.cameras import CameraBatch
from avatars.text_edit.config import EditorSettings
from avatars.text_edit.editors import TABLE, open_editor
from avatars.text_edit.editors.built_in import BuiltInEditor
from avatars.text_edit.editors.noise import cells, value_noise
from avatars.text_edit.editors.painters import PAINTERS
from avatars.text_edit.editors.prompt import parse_prompt
from avatars.text_edit.editors.vocabulary import RECOLOUR, REGION_WORDS, looks
from avatars.text_edit.maps import SurfaceMaps
from avatars.text_edit.surface import REGIONS, Face
from avatars.text_edit.views import Views
from shared.errors import BadConfig

SIZE = 48
FULL = EditorSettings()


@lru_cache(maxsize=2)
def ball_head(turn_px: int = 0) -> Views:
    """A ball for a head, seen from before: hair above, eyes, lips, clothes below; `turn_px` moves it in the picture."""
    axis = (torch.arange(SIZE) + 0.5 - SIZE / 2) / (SIZE / 2.4)
    z, x = torch.meshgrid(-axis, axis, indexing="ij")
    x = torch.roll(x, turn_px, 1)
    inside = 1 - x**2 - z**2
    y = -inside.clamp_min(0).sqrt()
    alpha = (inside > 0).float()[None, ..., None]
    normal = torch.nn.functional.normalize(torch.stack((x, y, z), -1), dim=-1)[None]
    rest = torch.stack((0.1 * x, 0.1 * y, 0.1 * z + 1.6), -1)[None] * alpha
    weights = torch.zeros(1, SIZE, SIZE, len(REGIONS))
    at = {name: weights[0, ..., index] for index, name in enumerate(REGIONS)}
    at["hair"][z > 0.6] = 1
    at["clothes"][z < -0.75] = 1
    at["eyes"][((x.abs() - 0.3) ** 2 + z**2) < 0.01] = 1
    at["lips"][(z + 0.45).abs() + 0.3 * x.abs() < 0.08] = 1
    at["skin"][weights[0].sum(-1) == 0] = 1
    colour = torch.tensor([[0.8, 0.6, 0.5], [0.2, 0.12, 0.1], [0.2, 0.15, 0.1], [0.7, 0.35, 0.35], [0.7, 0.75, 0.8]])
    colour = torch.cat((colour, torch.tensor([[0.4, 0.2, 0.2], [0.1, 0.1, 0.1], [0.2, 0.3, 0.6]])))
    shade = 0.7 + 0.3 * normal[..., 2:]
    images = (weights @ colour) * shade * alpha + (1 - alpha)
    K = torch.tensor([[[200.0, 0, SIZE / 2], [0, 200.0, SIZE / 2], [0, 0, 1]]])
    facing = torch.tensor([[1.0, 0, 0, 0], [0, 0, -1, 1.6], [0, 1, 0, 1.0], [0, 0, 0, 1]])[None]
    face = Face((0.0, -0.1, 1.6), 0.03, (0.0, -0.09, 1.555), 1.5)
    maps = SurfaceMaps(alpha, alpha, normal * alpha, rest, normal * alpha, weights * alpha, face)
    cameras = CameraBatch(K, facing, SIZE, SIZE)
    return Views(images, images, alpha, cameras, torch.zeros(1, dtype=torch.int64), torch.ones(3), maps)


def edited(prompt: str, views: Views | None = None, settings: EditorSettings = FULL) -> Tensor:
    editor = BuiltInEditor("cpu")
    editor.prepare(prompt, settings)
    return editor.edit(views or ball_head(), (0.0, 1.0), torch.Generator())


def changed(picture: Tensor, region: str) -> float:
    """Mean change inside a region that is solid."""
    views = ball_head()
    where = views.maps.weights[..., REGIONS.index(region)] > 0.5
    return float((picture - views.images).abs().mean(-1)[where].mean())


def test_every_look_is_found_by_its_own_prompt_and_words_and_has_a_painter() -> None:
    for look in looks():
        assert look.painter in PAINTERS
        assert look.name in [step.look.name for step in parse_prompt(look.prompt)], look.prompt
        assert set(look.on) <= {*REGION_WORDS, *REGIONS}
        for phrase in look.words:
            assert [step.look for step in parse_prompt(phrase)] == [look], phrase
    assert set(PAINTERS) == {look.painter for look in looks()} | {RECOLOUR.painter}


@pytest.mark.parametrize("look", looks(), ids=lambda look: look.name)
def test_every_look_changes_the_person_and_nothing_else(look) -> None:  # type: ignore[no-untyped-def]
    picture = edited(look.prompt)
    assert torch.isfinite(picture).all()
    assert picture.min() >= 0
    assert picture.max() <= 1
    views = ball_head()
    inside = views.alpha[..., 0] > 0
    assert (picture - views.images).abs()[inside].mean() > 0.0005
    assert torch.equal(picture[~inside], views.images[~inside])


def test_a_prompt_with_words_it_does_not_know_is_refused_with_what_it_knows() -> None:
    with pytest.raises(BadConfig, match="'batman'") as caught:
        parse_prompt("turn him into batman")
    assert "marble" in str(caught.value)
    assert "ip2p" in str(caught.value)
    with pytest.raises(BadConfig, match="did you mean 'marble'"):
        parse_prompt("marbel statue")
    for empty in ("", "   ", "change the hair", "make her"):
        with pytest.raises(BadConfig, match="nothing to do"):
            parse_prompt(empty)
    with pytest.raises(BadConfig, match="too long"):
        parse_prompt("red " * 200)


def test_prompts_are_read_clause_by_clause() -> None:
    def read(prompt: str) -> list[tuple[str, tuple[str, ...]]]:
        return [(step.look.name, step.regions) for step in parse_prompt(prompt)]

    assert read("turn her hair red") == [("colour", ("hair",))]
    assert read("blonde hair and blue eyes") == [("colour", ("hair",)), ("colour", ("eyes",))]
    assert read("gold skin and hair") == [("gold", ("skin", "hair"))]
    assert read("make him a bronze statue") == [("bronze", ("everything",))]
    assert read("silver hair") == [("colour", ("hair",))]
    assert read("metallic silver hair") == [("silver", ("hair",))]
    assert read("zebra face paint") == [("zebra", ("face",))]
    (stripes,) = parse_prompt("red and white striped face paint")
    assert len(stripes.colours) == 2
    (halves,) = parse_prompt("half face in #102030 and red")
    assert halves.colours[0] == pytest.approx((16 / 255, 32 / 255, 48 / 255))
    assert parse_prompt("slightly old")[0].strength == 0.5
    assert [step.look.name for step in parse_prompt("sepia photo of a marble statue")] == ["marble", "sepia"]
    dark, plain = parse_prompt("dark red hair")[0].colours[0], parse_prompt("red hair")[0].colours[0]
    assert sum(dark) < sum(plain)


def test_colours_stay_in_their_region() -> None:
    picture = edited("turn her hair red")
    assert changed(picture, "hair") > 0.05
    assert changed(picture, "skin") == changed(picture, "clothes") == 0
    red, green, _ = picture[ball_head().maps.weights[..., REGIONS.index("hair")] > 0.5].mean(0)
    assert red > 1.5 * green
    elsewhere = edited("turn to stone", settings=replace(FULL, region="clothes"))
    assert changed(elsewhere, "clothes") > 0.02
    assert changed(elsewhere, "skin") == 0
    with pytest.raises(BadConfig, match="clothes"):
        edited("red", settings=replace(FULL, region="cloths"))


def test_strength_blends_with_what_was_there() -> None:
    views = ball_head()
    none, half, full = (edited("turn to stone", settings=replace(FULL, strength=s)) for s in (0.0, 0.4, 0.8))
    assert torch.equal(none, views.images) or (none - views.images).abs().max() < 1e-5
    assert (half - views.images).abs().mean() == pytest.approx(float((full - views.images).abs().mean()) / 2, rel=0.25)


def test_patterns_stick_to_the_person_when_it_moves_in_the_picture() -> None:
    moved = ball_head(3)
    for prompt in ("face paint like a tiger", "black marble bust"):
        here, there = edited(prompt), edited(prompt, moved)
        assert (torch.roll(here, 3, 2) - there).abs()[:, 8:-8, 12:-12].mean() < 0.02


def test_pictures_without_a_person_or_without_maps() -> None:
    views = ball_head()
    names = ("alpha", "depth", "normal", "rest_position", "rest_normal", "weights")
    nothing = replace(views.maps, **{name: torch.zeros_like(getattr(views.maps, name)) for name in names})
    empty = replace(views, images=torch.ones_like(views.images), alpha=torch.zeros_like(views.alpha), maps=nothing)
    for prompt in ("gold", "old", "sketch", "cartoon", "red hair", "joker", "neon"):
        assert torch.equal(edited(prompt, empty), empty.images)
    with pytest.raises(BadConfig, match="maps"):
        edited("gold", replace(views, maps=None))


def test_noise_repeats_and_lies_between_0_and_1() -> None:
    points = torch.rand(200, 3, generator=torch.Generator().manual_seed(1)) * 60 - 30
    values = value_noise(points, 3)
    assert values.min() >= 0
    assert values.max() <= 1
    assert values.std() > 0.1
    assert torch.allclose(value_noise(points + 48, 3), values, atol=1e-4)
    whole = torch.tensor([[2.0, 3.0, 4.0]])
    assert torch.allclose(value_noise(whole, 3), value_noise(whole + 1e-4, 3), atol=1e-3)
    first, second, own = cells(points, 2)
    assert (first <= second).all()
    assert first.max() < 1.8
    assert own.min() >= 0


def test_the_table_opens_it() -> None:
    assert "built_in" in TABLE
    editor = open_editor("built_in", "cpu")
    assert (editor.name, editor.needs_maps, editor.deterministic) == ("built_in", True, True)
    with pytest.raises(BadConfig, match="built_in"):
        open_editor("builtin", "cpu")
