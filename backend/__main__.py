"""`python -m backend …`: see backend.cli."""

import sys

MISSING = (
    "effigy: {python} has no {name}, which Effigy needs. Use the Python in .venv, which 'python install.py demo' makes."
)


def run() -> int | str:
    """Exit status of the command, or a sentence for sys.exit where this is not the Python Effigy was installed into."""
    try:
        from backend.cli import main

        return main()
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] in ("avatars", "backend", "shared"):
            raise
        return MISSING.format(python=sys.executable, name=error.name)


if __name__ == "__main__":
    sys.exit(run())
