"""What the pages in docs/ name is there: commands with their options, presets, and where links lead."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from avatars.training.config import PRESET_FOLDER
from backend.cli import COMMANDS, parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = [*sorted(ROOT.glob("*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
CALL = re.compile(r"(?:\beffigy|-m backend) ([a-z][a-z-]*)\b((?:\\\n|[^`\n])*)")
OPTION = re.compile(r"(?<![\w=-])--[a-zA-Z][\w-]*")
LINK = re.compile(r"\]\(([^)\s]+)\)")


def typed(text: str) -> Iterator[tuple[str, str]]:
    """Command and the words behind it, of code in a page: indented lines, and code between back-quotes."""
    code = [*re.findall(r"^ {4,}(?:.*\\\n)*.*$", text, re.M), *re.findall(r"`[^`\n]+`", text)]
    for part in code:
        for found in CALL.finditer(part):
            # A comment, or what else stands apart in the same line, is no part of the command.
            yield found[1], found[2] if "\\\n" in found[2] else re.split(r" {2,}|\s#", found[2])[0]


def options(chosen: argparse.ArgumentParser, words: list[str]) -> set[str]:
    """Every option of a command, or of the one below it that the words name."""
    found = set(chosen._option_string_actions)
    for action in chosen._actions:
        if isinstance(action, argparse._SubParsersAction):
            below = [name for name in action.choices if name in words[:1]] or list(action.choices)
            for name in below:
                found |= options(action.choices[name], words[1:])
    return found


@pytest.fixture(scope="module")
def every_command() -> dict[str, argparse.ArgumentParser]:
    (commands,) = (one for one in parser()._actions if isinstance(one, argparse._SubParsersAction))
    return dict(commands.choices)


def unknown(text: str, every_command: dict[str, argparse.ArgumentParser], presets: set[str]) -> list[str]:
    """Commands, options and training presets that a page's code names and that are not there."""
    wrong = []
    for name, rest in typed(text):
        if name == "train" and "--use_in2n" in rest:  # another program's way to say it, which backend.cli takes
            continue
        if name not in COMMANDS:
            wrong.append(f"effigy {name}")
            continue
        known = options(every_command[name], rest.split())
        wrong += [f"effigy {name} … {option}" for option in OPTION.findall(rest) if option not in known]
        if name in ("train", "edit", "relight"):
            named = re.findall(r"--preset ([a-z][a-z0-9_]*)(?![\w./])", rest)
            wrong += [f"effigy {name} … --preset {preset}" for preset in named if preset not in presets]
    return wrong


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_what_is_to_be_typed_is_there(page: Path, every_command: dict[str, argparse.ArgumentParser]) -> None:
    presets = {path.stem for path in PRESET_FOLDER.glob("*.yaml")}
    assert unknown(page.read_text(encoding="utf-8"), every_command, presets) == []


def test_what_is_not_there_is_found(every_command: dict[str, argparse.ArgumentParser]) -> None:
    page = """
    effigy train --capture demo_head --preset slow --nonsense 3     # --not-looked-at
    python -m backend benchmark body --sizes \\
        --no-such-size

    Prose names `effigy tarin`, `effigy capture track --flame ID` and effigy nothing.
    """
    page = page.replace("    Prose", "Prose")
    assert unknown(page, every_command, {"fast"}) == [
        "effigy train … --nonsense",
        "effigy train … --preset slow",
        "effigy benchmark … --no-such-size",
        "effigy tarin",
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in LINK.findall(page.read_text(encoding="utf-8")):
        place, _, heading = link.partition("#")
        if "://" in place or place.startswith("mailto:"):
            continue
        target = page.parent / place if place else page
        if not target.exists() or (heading and heading not in headings(target)):
            wrong.append(link)
    assert not wrong


def headings(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    lines = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"\s", "-", re.sub(r"[^\w\s-]", "", line.strip().lower())) for line in lines}
