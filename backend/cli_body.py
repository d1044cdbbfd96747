"""`benchmark body`: training steps and renders of full bodies beside the bare rasteriser, and the time to quality."""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from backend.cli_train import overrides_of
from backend.options import add_device


def add_body_benchmark(kinds: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    body = kinds.add_parser(
        "body",
        help="training steps and renders of bodies beside the bare rasteriser",
        description="Goals on one H200, 200000 Gaussians at 1024 px: render ratio at most 2, 300 FPS, 60 steps/s with "
        "one view, at most 24 GiB. With --train a preset is trained as well, and the time to 95 %% of its final gain "
        "in held-out PSNR is told.",
    )
    add_device(body)
    body.add_argument("--gaussians", type=int, help="default: 200000")
    body.add_argument("--sizes", type=int, nargs="*", metavar="PX", help="default: 1024 512")
    body.add_argument("--views", type=int, nargs="+", help="pictures of one pose a step (default: 1 4)")
    body.add_argument("--ssim", type=float, default=0.0, help="weight of 1 - SSIM beside L1 (default: plain L1)")
    body.add_argument("--seconds", type=float, default=1.0, help="about how long each timing takes")
    body.add_argument("--profile", action="store_true", help="print where the time goes instead, for one size and view")
    body.add_argument("--train", metavar="PRESET", help="train this preset, too")
    body.add_argument("--capture", default="demo_body", help="with --train: what to train on")
    body.add_argument("--pose-noise", type=float, default=0.0, metavar="DEG", help="with --train: noise on poses")
    body.add_argument("--gain-spread", type=float, default=0.0, metavar="SHARE", help="with --train: uneven cameras")
    body.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="with --train: overrides")
    body.add_argument("--output", type=Path, help="with --train: keep avatar and report there")
    body.add_argument("--json", type=Path, help="write the figures there as well")
    body.set_defaults(run=benchmark_body)


def benchmark_body(arguments: argparse.Namespace) -> int:
    """The table of avatars.mlp_body.benchmark, a line at a time, then the training that was asked for."""
    from avatars.mlp_body import benchmark
    from backend.devices import device_name, resolve_device, usable_cores, use_cores

    use_cores(usable_cores())
    device = resolve_device(arguments.device)
    sizes = benchmark.SIZES_PX if arguments.sizes is None else arguments.sizes
    if arguments.profile:
        print(device_name(device))
        one = (sizes or benchmark.SIZES_PX)[0], (arguments.views or benchmark.VIEWS)[0]
        losses = {"ssim": arguments.ssim}
        for title, lines in benchmark.run_body_profile(
            arguments.gaussians or benchmark.GAUSSIANS, *one, losses=losses, device=device
        ):
            print("", f"== {title}, {one[0]} px", *lines, sep="\n", flush=True)
        return 0
    print(device_name(device), "", *([benchmark.HEADER] if sizes else []), sep="\n")
    rows: list[benchmark.BodyRow | benchmark.TrainedRow] = []
    for row in benchmark.run_body_benchmark(
        arguments.gaussians or benchmark.GAUSSIANS,
        sizes,
        arguments.views or benchmark.VIEWS,
        losses={"ssim": arguments.ssim},
        seconds=arguments.seconds,
        device=device,
    ):
        print(benchmark.line(row), flush=True)
        rows.append(row)
    if arguments.train:
        from avatars.captures.disturbed import disturbed
        from avatars.captures.opening import open_capture

        with tempfile.TemporaryDirectory() as scratch:
            trained = benchmark.timed_training(
                arguments.train,
                disturbed(
                    open_capture(arguments.capture),
                    noise_deg=arguments.pose_noise,
                    gain_spread=arguments.gain_spread,
                ),
                arguments.output or Path(scratch),
                device,
                overrides_of(arguments.set),
                lambda told: None,
            )
        rows.append(trained)
        print(
            f"{trained.preset}: {trained.start_db:.2f} to {trained.final_db:.2f} dB held out, "
            f"{trained.poses_db:.2f} dB in held-out poses, in "
            f"{trained.seconds:.0f} s ({trained.images} images); 95 % of the gain after "
            f"{trained.seconds_to_95_percent:.0f} s"
        )
    if arguments.json:
        found = {"device": device_name(device), "rows": benchmark.as_json(rows)}
        arguments.json.write_text(json.dumps(found, indent=1), encoding="utf-8")
    return 0
