"""Tables for people: cells break over lines rather than lose their end, so that paths and addresses stay whole."""

from __future__ import annotations

from typing import Any

from rich.table import Table


def folding_table(*titles: str, **options: Any) -> Table:
    """A table with these columns. Rich's own cut words that are wider than a column, as paths on 80 columns are."""
    table = Table(*titles, **options)
    for column in table.columns:
        column.overflow = "fold"
    return table
