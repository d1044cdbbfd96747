"""`evaluate-edit`: what an edit did, in numbers: by CLIP with the user's weights, and by measures that need none."""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path

from rich.console import Console
from rich.table import Table

from backend.cli_chosen import check_writable, prepare_device
from backend.home import open_home
from backend.library import Library, avatar_place
from backend.options import add_device, add_home
from shared.errors import BadAvatar, BadConfig

MEANINGS = {
    "changed": "mean change of the pictures, 0..1",
    "hidden_change": "mean change of colour of mouth and eyes",
    "shown_change": "of all else",
    "flicker": "of the edit from picture to picture, place by place",
    "flicker_excess": "by how much areas differ more than before the edit",
    "outside_psnr_db": "dB where nothing was to change",
    "outside_ssim": "the same, SSIM",
    "clip_similarity": "of pictures and prompt",
    "clip_direction": "of the changes of pictures and of texts",
    "clip_consistency": "of neighbouring pictures",
    "clip_directional_consistency": "of the changes of neighbouring pictures",
}


def add_evaluate_edit(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "evaluate-edit",
        help="what an edit did: CLIP with your weights, flicker, hidden parts, what lies outside the region",
        description="Both versions are rendered through one motion. CLIP's figures need weights that you have: --clip, "
        "or openai/clip-vit-large-patch14 in the hub's cache; nothing is downloaded.",
    )
    add = parser.add_argument
    add("avatar", metavar="EDITED", help="an edited version: an id of the library, or a NAME.avatar folder")
    add("--before", help="what it was edited from (default: the parent it remembers, in the same library)")
    add("--capture", default="", help="whose motion is shown (default: expressions of the avatar's own template)")
    add("--prompt", default="", help="default: the prompt it remembers")
    add("--was", default="a photo of a person", help="what the pictures showed before (default: %(default)s)")
    add("--clip", default="", metavar="FOLDER", help="CLIP in transformers' format")
    add("--frames", type=int, default=24, help="default: %(default)s")
    add("--size", type=int, default=256, metavar="PX", help="default: %(default)s")
    add("--output", type=Path, help="folder for edit.json and pairs.png")
    add("--json", action="store_true", help="JSON instead of a table")
    add_home(parser)
    add_device(parser)
    parser.set_defaults(run=evaluate_edit)


def evaluate_edit(arguments: argparse.Namespace) -> int:
    """Measure, print, and leave what can be looked at."""
    if not 2 <= arguments.frames <= 10_000 or not 16 <= arguments.size <= 4096:
        raise BadConfig("--frames or --size is out of range", expected="2 to 10000 frames, 16 to 4096 px")
    device, library = prepare_device(arguments.device), open_home(arguments.home).library
    place, avatar_id = avatar_place(arguments.avatar, library)
    folder = Library(place).path(avatar_id)
    from avatars.avatar_folder import load_avatar, read_description

    note = read_description(folder).get("edit")
    note = note if isinstance(note, dict) else {}
    parent = parent_folder(arguments.before, note, Library(place), library)
    before, after = load_avatar(parent, device), load_avatar(folder, device)
    from avatars.captures.opening import open_capture
    from avatars.evaluation.edit_clip import Clip, find_clip
    from avatars.evaluation.edited_pair import compare_edit
    from avatars.text_edit.generated import film_shots

    recorded = open_capture(arguments.capture) if arguments.capture else None
    motion, shots = film_shots(before, recorded, arguments.frames, arguments.size, 0, device)
    weights = find_clip(arguments.clip)
    settings = note.get("settings")
    region = str(settings.get("region", "")) if isinstance(settings, dict) else ""
    prompt = arguments.prompt or str(note.get("prompt", ""))
    if weights is not None and not prompt:
        raise BadConfig("the avatar remembers no prompt", do="Give the one it was edited by with --prompt")
    clip = Clip(weights, device) if weights is not None else None
    figures, pictures = compare_edit(
        before, after, motion, shots, device, region=region, clip=clip, prompt=prompt, was=arguments.was
    )
    told = {name: value if math.isfinite(value) else None for name, value in figures.items()}
    if arguments.output is not None:
        from avatars.text_edit.results import sheet
        from avatars.training.evaluation import as_uint8

        check_writable(arguments.output)
        (arguments.output / "edit.json").write_text(json.dumps(told, indent=1), encoding="utf-8")
        chosen = [round(row * (len(shots) - 1) / 7) for row in range(8)]
        first, second = (as_uint8(part) for part in pictures.split(3, -1))
        sheet([(f"frame {row}", first[row], second[row]) for row in chosen]).save(arguments.output / "pairs.png")
    if arguments.json:
        print(json.dumps(told, indent=1))
        return 0
    table = Table("figure", "", "what it is")
    for name, value in figures.items():
        table.add_row(name, f"{value:.4g}", MEANINGS[name])
    Console().print(table)
    if clip is None:
        print("No CLIP: there are no weights (--clip FOLDER, or openai/clip-vit-large-patch14 in the hub's cache)")
    return 0


def parent_folder(named: str | None, note: dict[str, object], shelf: Library, library: Path) -> Path:
    """What an edited avatar was before: the one named, else the one of its shelf whose digest it remembers."""
    if named:
        place, avatar_id = avatar_place(named, library)
        return Library(place).path(avatar_id)
    parent = note.get("parent")
    digest = parent.get("digest") if isinstance(parent, dict) else None
    if digest is None:
        raise BadAvatar("it remembers no parent: it is no edited version", do="Name what it was before with --before")
    for summary in shelf.summaries():
        if summary.digest == digest:
            return shelf.path(summary.avatar_id)
    raise BadAvatar("the parent of this version is not in the library any more", do="Name it with --before")
