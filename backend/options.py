"""Options that most commands have, declared in one way."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_home(parser: argparse._ActionsContainer) -> None:
    """--home: the data folder, a path or None."""
    parser.add_argument("--home", type=Path, help="data folder (default: $EFFIGY_HOME or ~/.effigy)")


def add_device(parser: argparse._ActionsContainer) -> None:
    """--device: what computes, a text that `devices.resolve_device` understands."""
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or cuda:N")
