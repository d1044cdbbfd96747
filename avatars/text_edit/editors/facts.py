"""What is known of each editor without opening it: for lists, panels and early refusals. No torch, no diffusers."""

from __future__ import annotations

from dataclasses import dataclass

from avatars.text_edit.editors.prompt import parse_prompt
from avatars.text_edit.editors.vocabulary import Look, looks
from avatars.text_edit.editors.weights import MODELS, UNKNOWN_LICENCE, find_weights, lacking_library
from shared.errors import EffigyError


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
    """Every editor and whether it can be used here. Looks at files alone."""
    title, licence = "Built-in looks (no weights needed)", "Apache-2.0 (part of Effigy)"
    return (EditorFacts(BUILT_IN, title, licence, "", False, False, looks()), *map(model_facts, MODELS))


def model_facts(name: str) -> EditorFacts:
    """What is known of one diffusion editor of `weights.MODELS`."""
    model, problem, licence, folder = MODELS[name], lacking_library(), UNKNOWN_LICENCE, ""
    try:
        found = find_weights(name)
        licence, folder = found.licence, str(found.folder)
    except EffigyError as error:
        problem = problem or str(error)
    return EditorFacts(name, model.title, licence, problem, True, bool(model.usual.image_guidance), (), folder)


def check_prompt(editor: str, prompt: str) -> None:
    """Refuse what an editor cannot do, at once. Raises BadConfig in one sentence."""
    if editor == BUILT_IN:
        parse_prompt(prompt)
