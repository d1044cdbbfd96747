"""`benchmark scale`: training on 1, 2 and 4 GPUs of this machine in one run, and whether they learn the same."""

from __future__ import annotations

import argparse
import json
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

from backend.devices import device_name, resolve_device
from backend.on_gpus import check_gpus, ranks_environment, torchrun
from shared.errors import WorkerFailed

GOALS = {2: 1.8, 4: 3.4}
AGREE_DB = 0.1
SMALL = {"batch": 2, "gaussians": 1500, "size_px": 96, "kinds": ("head",), "small": True}
"""Where there is no GPU."""


def add_scale_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = kinds.add_parser(
        "scale",
        help="training steps on 1, 2 and 4 GPUs",
        description="Goals at 32 pictures a GPU, 60000 Gaussians and 512 px: 1.8 times the images a second on 2 GPUs, "
        "3.4 on 4; with --agree the held-out PSNR of the same number of images on 1 and more GPUs within 0.1 dB. "
        "Without a GPU: processes on the CPU, with small sizes, which only shows that it works.",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--gpus", type=int, nargs="+", metavar="N", help="default: those of 1, 2 and 4 that are here")
    parser.add_argument("--kinds", nargs="+", choices=("head", "body"), help="default: both")
    parser.add_argument("--batch", type=int, help="pictures a GPU (default: 32)")
    parser.add_argument("--gaussians", type=int, help="default: 60000")
    parser.add_argument("--size", type=int, metavar="PX", help="default: 512")
    parser.add_argument("--steps", type=int, default=60, help="timed steps (default: 60)")
    parser.add_argument(
        "--agree", type=int, nargs="?", const=24_000, default=0, metavar="IMAGES", help="train as well, and compare"
    )
    parser.add_argument("--json", type=Path, help="write the figures there as well")
    parser.set_defaults(run=benchmark_scale)


def benchmark_scale(arguments: argparse.Namespace) -> int:
    """A line a number of GPUs, and what they come to."""
    import torch

    from avatars.training.scale import Asked

    device = resolve_device(arguments.device)
    cpu = device == "cpu"
    there = 2 if cpu else torch.cuda.device_count()
    counts = arguments.gpus or [count for count in (1, *GOALS) if count <= there]
    for count in counts:
        check_gpus(count, device)
    given = {"batch": arguments.batch, "gaussians": arguments.gaussians, "size_px": arguments.size}
    given |= {"kinds": arguments.kinds}
    values: dict[str, Any] = {**(SMALL if cpu else {}), **{key: value for key, value in given.items() if value}}
    asked = Asked(**values, steps=arguments.steps, agree=arguments.agree)
    print(device_name(device) + (f", {there} of them here" if not cpu else ""))
    if cpu:
        print("No GPU: processes on the CPU (gloo) and small sizes; that says nothing of GPUs.")
    print(f"{asked.batch} pictures a GPU, {asked.gaussians} Gaussians, {asked.size_px} px; whole training steps\n")
    rows: list[dict[str, Any]] = []
    for count in counts:
        for row in run_ranks(asked, count, "cpu" if cpu else "cuda"):
            print(line_of(row, rows), flush=True)
            rows.append(row)
    if arguments.json:
        found = {"device": device_name(device), "asked": asdict(asked), "rows": rows}
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0


def run_ranks(asked: Any, count: int, device: str) -> Iterator[dict[str, Any]]:
    """The rows that `count` processes measure. Raises WorkerFailed."""
    command = [*torchrun(count), "-m", "backend.scale_rank", json.dumps(asdict(asked) | {"device": device})]
    environment = ranks_environment(count)
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, env=environment) as running:
        assert running.stdout is not None
        for line in running.stdout:
            if line.startswith(b"{"):
                yield json.loads(line)
    if running.returncode:
        found = f"exit status {running.returncode}"
        raise WorkerFailed(f"{count} processes could not measure", found=found, do="What they said is above")


def line_of(row: dict[str, Any], before: list[dict[str, Any]]) -> str:
    """One row for people, beside the first of its kind."""
    first = next((one for one in before if (one["what"], one["kind"]) == (row["what"], row["kind"])), row)
    if row["what"] == "pace":
        ratio = row["images_per_s"] / first["images_per_s"]
        goal = GOALS.get(row["gpus"])
        told = "" if goal is None or first["gpus"] != 1 else f" (goal {goal})"
        return (
            f"{row['kind']:5} {row['gpus']} GPU  batch {row['batch']:4}  {row['ms_a_step']:8.2f} ms a step  "
            f"{row['images_per_s']:9.1f} images/s  {ratio:5.2f} x{told}  "
            f"{row['gradient_mb']:.1f} MB of gradients in {row['buckets']} buckets"
        )
    apart = row["psnr_db"] - first["psnr_db"]
    told = "" if row is first else f"  {apart:+.3f} dB" + ("" if row["grow"] else f" (goal within {AGREE_DB})")
    return (
        f"{row['kind']:5} {row['gpus']} GPU  batch {row['batch']:4}  {row['images']} images in {row['seconds']:.1f} s  "
        f"PSNR {row['psnr_db']:.2f} dB{told}" + ("  a whole batch a GPU" if row["grow"] else "")
    )
