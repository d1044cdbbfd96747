"""What a film costs on paper: proportion, the pace of the slowest, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from backend.cli import main
from backend.growth.cost import MIB, Film, Rates, cost_of, rates_of
from backend.growth.fit import Growth
from shared.errors import BadConfig

LINE = Growth(1.0, 2.0, 1.0, 1.0, 0.0)
RATES = Rates("a device", 1000, 100, LINE, Growth(2.5, 0.5e-3, 1, 1, 0), Growth(2.8, 0.002, 1, 1, 0), 0.1, 2, 40, 50)


def test_frames_grow_with_avatars_gaussians_and_pixels() -> None:
    assert RATES.frame_ms(1, 1000, 100) == pytest.approx(3)
    assert RATES.frame_ms(10, 1000, 100) == pytest.approx(21)
    assert RATES.frame_ms(1, 3000, 100) == pytest.approx(4)
    assert RATES.frame_ms(10, 3000, 100) == pytest.approx(31), "each avatar has more Gaussians"
    assert RATES.frame_ms(10, 1000, 600) == pytest.approx(22), "the picture is one"
    assert RATES.frame_ms(1, 0, 0) >= 1


def test_the_bill_is_in_proportion() -> None:
    film = Film(100, 3_600_000, 10, 10, gaussians=1000, training_s=36, price=2)
    bill = cost_of(film, RATES)
    assert bill.training_hours == pytest.approx(1)
    assert (bill.draw_ms, bill.drawing_hours) == pytest.approx((3, 3))
    assert (bill.write_ms, bill.waiting_hours, bill.core_hours) == pytest.approx((10, 10, 10))
    assert bill.gpu_hours == pytest.approx(14)
    assert bill.price == pytest.approx(28)
    assert bill.avatar_bytes == pytest.approx(100 * 1000 * 40)
    assert bill.frame_bytes == pytest.approx(3_600_000 * 100 * 2)
    assert bill.bottleneck.startswith("GPUs waiting")
    assert "71 %" in bill.bottleneck
    twice = cost_of(replace(film, avatars=200, frames=7_200_000), RATES)
    assert (twice.gpu_hours, twice.price, twice.frame_bytes) == pytest.approx((28, 56, 2 * bill.frame_bytes))


def test_writers_take_the_waiting_away_as_far_as_they_are_fast_enough() -> None:
    film = Film(0, 3_600_000, 10, 10, gaussians=1000)
    waits = [cost_of(replace(film, writers=writers), RATES).waiting_hours for writers in (0, 1, 2, 4)]
    assert waits == pytest.approx([10, 7, 2, 0])
    enough = cost_of(replace(film, writers=4), RATES)
    assert enough.bottleneck == "drawing frames (100 % of the GPU-hours)"
    assert enough.core_hours == pytest.approx(10)
    blurred = cost_of(replace(film, samples=8, writers=4), RATES)
    assert blurred.drawing_hours == pytest.approx(24)
    assert cost_of(replace(film, frames=0), RATES).bottleneck == "nothing"
    assert cost_of(Film(10, 1, training_s=100), RATES).bottleneck.startswith("training 10 avatars")


@pytest.mark.parametrize(
    "wrong", [{"avatars": -1}, {"in_frame": 0}, {"samples": 0}, {"price": float("nan")}, {"training_s": float("inf")}],
    ids=str,
)  # fmt: skip
def test_what_makes_no_film_is_refused(wrong: dict[str, float]) -> None:
    with pytest.raises(BadConfig, match="out of range"):
        replace(Film(1, 1), **wrong)  # type: ignore[arg-type]


def figures() -> dict[str, object]:
    def points(part: str, places: list[tuple[int, int, int, float]]) -> dict[str, object]:
        names = ("gaussians", "size_px", "avatars", "best_ms")
        grows = {"gaussians": 0, "resolution": 1, "avatars": 2}[part]
        return {
            str(place): dict(zip(names, place, strict=True))
            | {"x": place[grows] ** (2 if part == "resolution" else 1), "batch": 1, "peak_mib": 1.0}
            for place in places
        }

    return {
        "device": "cpu, of a test",
        "gaussians": points("gaussians", [(1000, 10, 1, 3.0), (3000, 10, 1, 4.0)]),
        "resolution": points("resolution", [(1000, 10, 1, 3.0), (1000, 20, 1, 3.6)]),
        "avatars": points("avatars", [(1000, 10, 1, 3.0), (1000, 10, 10, 21.0)]),
        "files": {
            "one": {
                "gaussians": 1000,
                "size_px": 10,
                "avatar_mib": 40_000 / MIB,
                "avatar_load_ms": 50.0,
                "png_ms": 10.0,
                "png_mib": 200 / MIB,
            }
        },
    }


def test_rates_come_from_measured_figures() -> None:
    rates = rates_of(figures())
    for place in ((1, 1000, 100), (10, 3000, 100), (2, 1000, 600)):
        assert rates.frame_ms(*place) == pytest.approx(RATES.frame_ms(*place))
    film = Film(100, 1000, 10, 10, gaussians=1000)
    assert cost_of(film, rates).frame_bytes == pytest.approx(cost_of(film, RATES).frame_bytes)
    elsewhere = figures()
    bare = {name: part for name, part in elsewhere.items() if name != "files"}
    assert rates_of(bare, elsewhere) == rates
    with pytest.raises(BadConfig, match="no files"):
        rates_of(bare)
    with pytest.raises(BadConfig, match="too few parts"):
        rates_of({**figures(), "avatars": {}})


def test_the_command_prints_the_bill_or_says_what_is_missing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "growth.json").write_text(json.dumps(figures()), encoding="utf-8")
    assert main(["cost", str(tmp_path), "--size", "10", "10", "--gaussians", "1000", "--price", "2"]) == 0
    told = capsys.readouterr().out
    assert "1,000,000 frames" in told
    assert "at 2 a GPU-hour" in told
    assert "bottleneck: " in told
    assert main(["cost", str(tmp_path), "--samples", "0"]) == 2
    (tmp_path / "growth.json").write_text("[]", encoding="utf-8")
    assert main(["cost", str(tmp_path / "growth.json")]) == 2
    assert "benchmark growth" in capsys.readouterr().err
