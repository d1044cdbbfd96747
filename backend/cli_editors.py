"""`editors`: what edits pictures for `effigy edit`, whether it can be used here, its licence and its vocabulary."""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from rich.console import Console

from avatars.text_edit.editors.facts import BUILT_IN, check_prompt, editor_facts
from avatars.text_edit.editors.vocabulary import COLOURS, HAIR_COLOURS, REGION_WORDS, looks
from backend.tables import folding_table


def add_editors(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Declare the command."""
    parser = commands.add_parser(
        "editors", help="list the editors for prompts: what is installed, licences, vocabulary"
    )
    parser.add_argument("--looks", action="store_true", help="everything the built-in editor knows")
    parser.add_argument("--check", metavar="PROMPT", help="whether the built-in editor understands a prompt")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    parser.set_defaults(run=run_editors)


def run_editors(arguments: argparse.Namespace) -> int:
    """Print the list. Raises BadConfig for a prompt that is not understood."""
    if arguments.check is not None:
        check_prompt(BUILT_IN, arguments.check)
        print("The built-in editor understands this prompt.")
        return 0
    facts = editor_facts()
    if arguments.json:
        print(json.dumps({"editors": [asdict(fact) | {"installed": fact.installed} for fact in facts]}))
        return 0
    console = Console()
    if arguments.looks:
        table = folding_table("look", "about", "for example", "also")
        for look in looks():
            table.add_row(look.name, look.about, look.prompt, ", ".join(w for w in look.words if w != look.name))
        console.print(table)
        console.print("Regions: " + ", ".join(REGION_WORDS), highlight=False)
        console.print("Colours: " + ", ".join([*COLOURS, *HAIR_COLOURS]) + ", or #rrggbb", highlight=False)
        return 0
    table = folding_table("editor", "what it is", "usable", "licence")
    for fact in facts:
        table.add_row(fact.name, fact.title, "yes" if fact.installed else "no", fact.licence)
    console.print(table)
    for fact in facts:
        if fact.problem:
            console.print(f"{fact.name}: {fact.problem}", highlight=False, markup=False)
    console.print("What the built-in editor knows: effigy editors --looks", highlight=False)
    return 0
