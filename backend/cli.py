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

from backend.cli_capture import add_capture
from backend.cli_checks import add_benchmark, add_doctor
from backend.cli_demo import add_demo
from backend.cli_evaluate import add_evaluate
from backend.cli_export import add_export, add_import
from backend.cli_library import add_library, add_status
from backend.cli_lists import add_avatars, add_jobs
from backend.cli_online import add_online
from backend.cli_relight import add_relight
from backend.cli_render import add_render
from backend.cli_serve import add_serve
from backend.cli_template import add_template
from backend.cli_test_body import add_test
from backend.cli_train import add_train
from shared import __version__
from shared.errors import EffigyError

USER_ERROR, INTERRUPTED = 2, 130


def parser() -> argparse.ArgumentParser:
    """All commands and their options."""
    top = argparse.ArgumentParser(prog="effigy", description="Animatable Gaussian human avatars for Blender.")
    top.add_argument("--version", action="version", version=f"effigy {__version__}")
    commands = top.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for add in (
        add_serve,
        add_capture,
        add_train,
        add_online,
        add_evaluate,
        add_test,
        add_relight,
        add_render,
        add_import,
        add_export,
        add_template,
        add_avatars,
        add_library,
        add_jobs,
        add_status,
        add_benchmark,
        add_doctor,
        add_demo,
    ):
        add(commands)
    return top


def main(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit status."""
    chosen = parser().parse_args(arguments)
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
