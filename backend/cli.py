"""Effigy's command line: `python -m backend COMMAND …`, installed also as `effigy COMMAND …`.

Everything a panel in Blender can do is here too, through the same functions. What goes wrong for a reason the user can
mend is one sentence on standard error and exit status 2; Ctrl-C is 130.

For whoever starts a server as a child process (the add-on, the launcher):

    PYTHON -m backend serve --address tcp://127.0.0.1:47615 --parent-pid PID [--home FOLDER] [--device auto]

with the key, where one is wanted, in the environment variable EFFIGY_KEY (or the first line of --key-file FILE), and
the data folder, where --home is not given, in EFFIGY_HOME. Port 0 takes a free port. When it listens it prints one line
of JSON on standard output and nothing after it:

    {"ready": true, "address": "tcp://127.0.0.1:47615", "epoch": "…"}

Where it cannot listen it prints one sentence on standard error and ends with status 2. SIGTERM (or Ctrl-C) ends it, its
workers with it, after a last checkpoint. With --parent-pid it ends by itself once that process is gone and no training
job is left: closing Blender does not end a training (--even-training: it does; the next server takes the job up again).
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from pkgutil import resolve_name
from types import MappingProxyType

from shared import __version__
from shared.errors import EffigyError

USER_ERROR, INTERRUPTED = 2, 130


COMMANDS: Mapping[str, str] = MappingProxyType(
    {
        "serve": "backend.cli_serve:add_serve",
        "capture": "backend.cli_capture:add_capture",
        "train": "backend.cli_train:add_train",
        "live": "backend.cli_live:add_live",
        "online": "backend.cli_online:add_online",
        "edit": "backend.cli_edit:add_edit",
        "evaluate": "backend.cli_evaluate:add_evaluate",
        "test": "backend.cli_test_body:add_test",
        "infer": "backend.cli_infer:add_infer",
        "relight": "backend.cli_relight:add_relight",
        "render": "backend.cli_render:add_render",
        "reenact": "backend.cli_reenact:add_reenact",
        "import": "backend.cli_export:add_import",
        "export": "backend.cli_export:add_export",
        "editors": "backend.cli_editors:add_editors",
        "mesh": "backend.cli_mesh:add_mesh",
        "extract-geometry": "backend.cli_extract_geometry:add_extract_geometry",
        "evaluate-mesh": "backend.cli_evaluate_mesh:add_evaluate_mesh",
        "evaluate-edit": "backend.cli_evaluate_edit:add_evaluate_edit",
        "template": "backend.cli_template:add_template",
        "avatars": "backend.cli_lists:add_avatars",
        "library": "backend.cli_library:add_library",
        "jobs": "backend.cli_lists:add_jobs",
        "farm": "backend.cli_farm:add_farm",
        "keys": "backend.cli_keys:add_keys",
        "status": "backend.cli_library:add_status",
        "log": "backend.cli_library:add_log",
        "chaos": "backend.cli_chaos:add_chaos",
        "benchmark": "backend.cli_checks:add_benchmark",
        "cost": "backend.cli_cost:add_cost",
        "doctor": "backend.cli_checks:add_doctor",
        "fuzz": "backend.cli_fuzz:add_fuzz",
        "demo": "backend.cli_demo:add_demo",
    }
)
"""What declares each command. Only the one that was typed is imported: a server should answer soon."""


def parser(command: str = "") -> argparse.ArgumentParser:
    """The options of one command; of all, where it is none of them."""
    top = argparse.ArgumentParser(prog="effigy", description="Animatable Gaussian human avatars for Blender.")
    top.add_argument("--version", action="version", version=f"effigy {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for name in (command,) if command in COMMANDS else COMMANDS:
        resolve_name(COMMANDS[name])(commands)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words[:1] == ["train"] and "--use_in2n" in words:  # as GaussianAvatar-Editor says it
        words = ["edit", *words[1:]]
    chosen = parser(words[0] if words else "").parse_args(words)
    if getattr(chosen, "home", None) is not None:  # templates are looked for there, too, by worker processes as well
        os.environ["EFFIGY_HOME"] = str(chosen.home)
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # as in backend.workers; read when torch is loaded, later
    try:
        return int(chosen.run(chosen))
    except EffigyError as error:
        print(f"effigy: {error}", file=sys.stderr)
        return USER_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED
