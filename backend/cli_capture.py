"""`capture`: which recordings there are, what one holds, and whether it is fit to be trained on."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape

from backend.checking import REPORT, SHEET, check_and_report
from backend.cli_capture_refine import add_capture_refine
from backend.cli_track import add_track
from backend.tables import folding_table

MARKS = {"ok": "[green]ok[/]", "doubtful": "[yellow]doubtful[/]", "bad": "[red]bad[/]"}


def add_capture(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser("capture", help="list, describe and check recordings before training")
    actions = parser.add_subparsers(title="what to do", required=True, metavar="ACTION")
    check = actions.add_parser(
        "check",
        help="draw the template over a few pictures and say what is wrong",
        description="Tries every convention a camera file may have. Status 0: fit to train on; 1: something is wrong.",
    )
    check.add_argument("folder", help="the recording's folder, or the name of an embedded capture")
    check.add_argument("--frames", type=int, default=8, help="how many pictures to look at (default 8)")
    check.add_argument("--output", type=Path, help=f"folder for {SHEET} and {REPORT} (default: the current one)")
    check.add_argument("--json", action="store_true", help="JSON on standard output instead of a table")
    check.add_argument(
        "--fix", action="store_true", help="write the reading that fits into the folder's effigy.json and check again"
    )
    check.set_defaults(run=check_capture_command)
    listed = actions.add_parser("list", help="embedded captures, and the recordings in a folder")
    listed.add_argument("folder", nargs="?", type=Path, help="a folder that holds recordings")
    listed.add_argument("--json", action="store_true", help="one JSON list instead of a table")
    listed.set_defaults(run=list_captures)
    info = actions.add_parser("info", help="what a recording holds")
    info.add_argument("folder", help="the recording's folder, or the name of an embedded capture")
    info.add_argument("--json", action="store_true", help="JSON instead of a table")
    info.set_defaults(run=capture_info)
    clothing = actions.add_parser(
        "clothe",
        help="a template of the dressed person from a body recording's masks",
        description="Pushes the bare template out to the masks and writes template.ply, which training then puts the "
        "Gaussians on. For clothes that stand off the body; not for skirts. Needs a mask in every picture.",
    )
    clothing.add_argument("folder", help="the recording's folder, or the name of an embedded capture")
    clothing.add_argument("--output", type=Path, help="file to write (default: template.ply in the recording's folder)")
    clothing.add_argument("--pictures", type=int, default=64, help="how many to look at (default 64)")
    clothing.add_argument("--force", action="store_true", help="replace a template.ply that is there")
    clothing.set_defaults(run=clothe_capture)
    converting = actions.add_parser("convert", help="PeopleSnapshot as downloaded into what training reads")
    converting.add_argument("folder", type=Path, help="a subject's folder: camera.pkl, masks.hdf5, a video, …")
    converting.add_argument("--output", type=Path, required=True, help="folder to write")
    converting.add_argument("--step", type=int, default=1, help="every so manieth frame (default 1)")
    converting.set_defaults(run=convert_capture)
    add_track(actions)
    add_capture_refine(actions)


def convert_capture(arguments: argparse.Namespace) -> int:
    """Convert with a line of progress; nothing is left behind where it fails or is stopped."""
    from rich.progress import Progress

    from avatars.captures.peoplesnapshot_raw import convert, is_raw_peoplesnapshot
    from shared.errors import BadCapture

    folder = Path(arguments.folder).expanduser()
    if not is_raw_peoplesnapshot(folder):
        raise BadCapture(f"{folder} is no PeopleSnapshot subject", expected="camera.pkl and reconstructed_poses.hdf5")
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Converting", total=None)
        output = Path(arguments.output).expanduser()
        frames = convert(
            folder, output, step=arguments.step, tell=lambda done, of: bar.update(task, completed=done, total=of)
        )
    print(f"{frames} frames in {output}")
    return 0


def clothe_capture(arguments: argparse.Namespace) -> int:
    """Fit, write the mesh and a sheet beside it, and tell the overlap with the masks before and after."""
    from PIL import Image
    from rich.progress import Progress

    from avatars.captures.opening import open_capture
    from avatars.mlp_body.clothing import ClothingSettings, clothed_body, clothing_sheet, write_clothed_template
    from shared.errors import BadConfig

    if arguments.pictures < 1:
        raise BadConfig("--pictures is too small", found=str(arguments.pictures), expected="at least 1")
    capture, folder = open_capture(arguments.folder), Path(arguments.folder).expanduser()
    if arguments.output is None and not folder.is_dir():
        raise BadConfig(f"{arguments.folder} is no folder to write into", do="Name a file with --output")
    output = (arguments.output or folder / "template.ply").expanduser()
    if output.exists() and not arguments.force:
        raise BadConfig(f"{output} is there already", do="Name another file with --output, or add --force")
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("Comparing outlines", total=None)
        found = clothed_body(
            capture,
            ClothingSettings(pictures=arguments.pictures),
            lambda done, of: bar.update(task, completed=done, total=of),
        )
    write_clothed_template(found, output)
    picture = output.with_suffix(".png")
    Image.fromarray(clothing_sheet(capture, found)).save(picture)
    print(
        f"Overlap with the masks: {found.before[0]:.3f} bare, {found.after[0]:.3f} dressed; "
        f"in held-out pictures {found.before[1]:.3f} and {found.after[1]:.3f}"
    )
    print(output, picture, sep="\n")
    return 0


def check_capture_command(arguments: argparse.Namespace) -> int:
    """Examine, write sheet and report, print the findings; status 1 when one of them is bad."""
    from avatars.captures.options import OPTIONS

    output = (arguments.output or Path()).expanduser()
    checked, document, written = check_and_report(arguments.folder, arguments.frames, output, fix=arguments.fix)
    sheet_path, report_path = output / SHEET, output / REPORT
    if arguments.json:
        print(json.dumps(document, indent=1))
        return int(checked.state() == "bad")
    console = Console()
    table = folding_table("what", "state", "found", "what to do", title=f"{checked.capture} ({checked.layout})")
    for finding in checked.findings:
        table.add_row(finding.name, MARKS[finding.state], escape(finding.found), escape(finding.do))
    console.print(table)
    for name, bins in (("yaw", checked.coverage.yaw), ("pitch", checked.coverage.pitch)):
        console.print(_histogram(name, bins))
    if written:
        console.print(f"Written to {Path(arguments.folder) / OPTIONS}", soft_wrap=True)
    console.print(f"Sheet: {sheet_path}", soft_wrap=True)
    console.print(f"Report: {report_path}", soft_wrap=True)
    return int(checked.state() == "bad")


def list_captures(arguments: argparse.Namespace) -> int:
    """Embedded captures and, with a folder, the recordings in it, two folders deep (or it itself)."""
    from avatars.captures.embedded import embedded_captures
    from avatars.captures.opening import LAYOUTS, layout_of
    from shared.errors import BadCapture

    rows = [{"name": name, "layout": "effigy", "about": text} for name, text in embedded_captures().items()]
    if arguments.folder is not None:
        folder = arguments.folder.expanduser()
        if not folder.is_dir():
            raise BadCapture(f"there is no folder {folder}", do="Check the path")
        outer = _folders(folder)
        for path in [folder, *outer, *(inner for one in outer for inner in _folders(one))]:
            layout = layout_of(path)
            if layout:
                rows.append({"name": os.fspath(path), "layout": layout, "about": LAYOUTS[layout].title})
    if arguments.json:
        print(json.dumps(rows, indent=1))
        return 0
    table = folding_table("capture", "layout", "what it is")
    for row in rows:
        table.add_row(escape(row["name"]), row["layout"], escape(row["about"]))
    Console().print(table)
    return 0


def _folders(parent: Path) -> list[Path]:
    return sorted(path for path in parent.iterdir() if path.is_dir() and not path.name.startswith("."))


def capture_info(arguments: argparse.Namespace) -> int:
    """Counts, cameras, template, splits and notes of one recording."""
    from avatars.captures.opening import open_capture

    capture = open_capture(arguments.folder)
    first = capture.cameras[0]
    facts: dict[str, Any] = {
        "name": capture.name,
        "layout": capture.layout,
        "subject": capture.subject,
        "licence": capture.licence,
        "template": capture.template.template_id,
        "moments": len(capture.motion),
        "fps": capture.motion.fps,
        "pictures": {split: len(capture.split(split)) for split in ("train", "val", "test") if capture.split(split)},
        "cameras": len(set(capture.camera_names)),
        "size_px": [first.width_px, first.height_px],
        "focal_px": round(float(first.K[0, 0]), 2),
        "joints": list(capture.joint_names),
        "expressions": len(capture.expression_names),
        "static_offset": capture.vertex_offset is not None,
        "reading": capture.reading.sentence(),
        "notes": list(capture.notes),
    }
    if arguments.json:
        print(json.dumps(facts, indent=1))
        return 0
    table = folding_table("what", "value")
    for name, value in facts.items():
        if value or name != "notes":
            table.add_row(name.replace("_", " "), escape(_words(name, value)))
    Console().print(table)
    return 0


def _words(name: str, value: Any) -> str:
    """A fact's value as a person reads it."""
    if isinstance(value, dict):
        return ", ".join(f"{count} {split}" for split, count in value.items())
    if isinstance(value, list):
        return {"notes": "\n", "size_px": " x "}.get(name, ", ").join(map(str, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _histogram(name: str, bins: dict[int, int]) -> str:
    """One line for each 15 degrees."""
    most = max(bins.values(), default=1)
    lines = [f"{name:>5} {low:>4}°  {'█' * max(1, round(30 * count / most))} {count}" for low, count in bins.items()]
    return "\n".join(lines)
