"""What is known of each editor without opening it: for lists, panels and early refusals. No torch, no diffusers."""

from __future__ import annotations

from dataclasses import dataclass

from avatars.text_edit.editors.prompt import parse_prompt
from avatars.text_edit.editors.vocabulary import Look, looks


@dataclass(frozen=True)
class EditorFacts:
    """One editor. problem: "" where it can be used, else one sentence with what to do.

    licence: of the code and of the weights found. text_guidance, image_guidance: whether it heeds these settings.
    looks: all it knows, empty for one that takes any prompt. weights: the folder that would be used, "" if none.
    """

    name: str
    title: str
    licence: str
    problem: str
    text_guidance: bool
    image_guidance: bool
    looks: tuple[Look, ...] = ()
    weights: str = ""

    @property
    def installed(self) -> bool:
        """Whether it can be used."""
        return not self.problem


BUILT_IN = "built_in"


def editor_facts() -> tuple[EditorFacts, ...]:
    """Every editor and whether it can be used here."""
    own = EditorFacts(
        BUILT_IN, "Built-in looks (no weights needed)", "Apache-2.0 (part of Effigy)", "", False, False, looks()
    )
    return (own,)


def check_prompt(editor: str, prompt: str) -> None:
    """Refuse what an editor cannot do, at once. Raises BadConfig in one sentence."""
    if editor == BUILT_IN:
        parse_prompt(prompt)
