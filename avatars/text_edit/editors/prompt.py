"""What a prompt asks the built-in editor for: words looked up in the vocabulary, and a refusal of any other.

A word it does not know is refused rather than passed over: a picture without what was asked for would be a pretence.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches

from avatars.text_edit.editors.vocabulary import (
    AMOUNTS,
    COLOURS,
    HAIR_COLOURS,
    HAIR_ONLY,
    JOINING,
    RECOLOUR,
    REGION_WORDS,
    SAY_NOTHING,
    SHADES,
    Colour,
    Look,
    looks,
)
from shared.errors import BadConfig

OTHER_EDITORS = (
    "For anything else choose the editor ip2p, flux_kontext, qwen_edit or sdxl, "
    "which needs weights of its own (effigy editors)"
)
LONGEST_PHRASE = 4
MOST_CHARACTERS = 400
HEX = re.compile(r"#[0-9a-f]{6}$")


@dataclass(frozen=True)
class Step:
    """One look to be applied: regions (names of REGION_WORDS), colours in the order of the prompt, strength factor."""

    look: Look
    regions: tuple[str, ...]
    colours: tuple[Colour, ...]
    strength: float = 1.0


@dataclass
class _Clause:
    looks: list[Look]
    regions: list[str]
    colours: list[Colour]
    amount: float = 1.0
    of_hair: list[str] | None = None


def parse_prompt(prompt: str) -> tuple[Step, ...]:
    """The steps a prompt asks for, in the order of their stages. Raises BadConfig in one sentence.

    "red hair and blue eyes" are two; "gold skin and hair" is one look on two regions.
    """
    clauses = _clauses(_words(prompt))
    steps: list[Step] = []
    carried: list[Colour] = []
    for index, clause in enumerate(clauses):
        if clause.looks:
            for look in clause.looks:
                steps.append(_step(look, clause, carried))
            carried = []
        elif clause.colours:
            later = clauses[index + 1] if index + 1 < len(clauses) else None
            if not clause.regions and later is not None and (later.colours or later.looks):
                carried.extend(clause.colours)  # "red and white stripes", "black and blue hair"
                continue
            if not clause.regions and steps and steps[-1].look is not RECOLOUR and steps[-1].colours:
                steps[-1] = replace(steps[-1], colours=(*steps[-1].colours, *clause.colours))  # "half blue and red"
                continue
            regions = tuple(clause.regions) or ("skin",)
            for region in regions:
                steps.append(Step(RECOLOUR, (region,), (*carried, *clause.colours)[-1:], clause.amount))
            carried = []
        elif clause.regions and steps:
            last = steps[-1]
            if last.look is RECOLOUR:
                steps += [replace(last, regions=(region,)) for region in clause.regions]
            else:
                steps[-1] = replace(last, regions=(*last.regions, *clause.regions))
    steps = [step for step in steps if not (step.look.yields and _others(step, steps))]
    if not steps:
        raise BadConfig(
            "the built-in editor found nothing to do in the prompt",
            found=prompt.strip() or "nothing",
            expected=f"a colour with a region, or one of {known_looks()}",
            do=OTHER_EDITORS,
        )
    return tuple(sorted(steps, key=lambda step: step.look.stage))


def _others(step: Step, steps: Sequence[Step]) -> bool:
    return any(other.look.stage == step.look.stage and not other.look.yields for other in steps)


def _step(look: Look, clause: _Clause, carried: Sequence[Colour]) -> Step:
    regions = tuple(clause.regions)
    if not regions or (regions == ("face",) and look.on == ("face",)):
        regions = look.on
    return Step(look, regions, (*carried, *clause.colours), clause.amount)


def known_looks() -> str:
    """All looks by name, for messages."""
    return ", ".join(look.name for look in looks())


def _words(prompt: str) -> list[str]:
    if len(prompt) > MOST_CHARACTERS:
        raise BadConfig(
            "the prompt is too long", found=f"{len(prompt)} characters", expected=f"at most {MOST_CHARACTERS}"
        )
    text = re.sub(r"[,;.!?:+&()\"]+", lambda found: " and " if found[0][0] in ",;+&" else " ", prompt.lower())
    return [
        word for word in (part.strip("'’`") for part in text.replace("’s ", " ").replace("'s ", " ").split()) if word
    ]


def _phrases() -> Mapping[str, tuple[str, object]]:
    found: dict[str, tuple[str, object]] = {word: ("nothing", None) for word in SAY_NOTHING}
    found |= {word: ("and", None) for word in JOINING}
    found |= {word: ("amount", factor) for word, factor in AMOUNTS.items()}
    found |= {word: ("shade", factors) for word, factors in SHADES.items()}
    found |= {word: ("region", region) for region, words in REGION_WORDS.items() for word in words}
    found |= {word: ("colour", colour) for word, colour in COLOURS.items()}
    found |= {word: ("colour", HAIR_COLOURS[word]) for word in HAIR_ONLY}
    found |= {phrase: ("look", look) for look in looks() for phrase in look.words}
    return found


def _clauses(words: list[str]) -> list[_Clause]:
    """Greedily the longest phrase at each place; a joining word begins another clause."""
    known, clauses, at = _phrases(), [_Clause([], [], [])], 0
    shade: tuple[float, float] | None = None
    unknown: list[str] = []
    while at < len(words):
        phrase, length = "", 0
        for size in range(min(LONGEST_PHRASE, len(words) - at), 0, -1):
            if " ".join(words[at : at + size]) in known or (size == 1 and HEX.match(words[at])):
                phrase, length = " ".join(words[at : at + size]), size
                break
        clause = clauses[-1]
        if not length:
            unknown.append(words[at])
            at += 1
            continue
        following = words[at + length : at + length + 1]
        kind, value = ("colour", _hex(phrase)) if HEX.match(phrase) else known[phrase]
        at += length
        if kind == "look" and phrase in SHADES and following and following[0] in COLOURS:
            kind, value = "shade", SHADES[phrase]  # "bright red"; alone "bright" is a look
        if kind == "and":
            clauses.append(_Clause([], [], []))
        elif kind == "look":
            assert isinstance(value, Look)
            clause.looks.append(value)
            if phrase in HAIR_COLOURS:
                clause.of_hair = [*(clause.of_hair or []), phrase]
        elif kind == "region" and value not in clause.regions:
            clause.regions.append(str(value))
        elif kind == "shade":
            assert isinstance(value, tuple)
            shade = value
        elif kind == "colour":
            assert isinstance(value, tuple)
            clause.colours.append(_shaded(value, shade))
            shade = None
            if phrase in HAIR_ONLY and "hair" not in clause.regions:
                clause.regions.append("hair")
        elif kind == "amount":
            assert isinstance(value, float)
            clause.amount *= value
    if unknown:
        raise _unknown(unknown, known)
    return [_hair_colours(clause, words) for clause in clauses]


def _hair_colours(clause: _Clause, words: Sequence[str]) -> _Clause:
    """Silver or golden hair is a colour, unless it is to be of metal."""
    if clause.of_hair and set(clause.regions) == {"hair"} and not {"metal", "metallic"} & set(words):
        clause.colours += [HAIR_COLOURS[word] for word in clause.of_hair]
        clause.looks = [look for look in clause.looks if not set(look.words) & set(clause.of_hair)]
    return clause


def _unknown(words: Sequence[str], known: Mapping[str, object]) -> BadConfig:
    close = get_close_matches(words[0], known, n=1, cutoff=0.8)
    hint = f" (did you mean {close[0]!r}?)" if close and close[0] not in SAY_NOTHING else ""
    return BadConfig(
        f"the built-in editor does not know the word{'s' if len(words) > 1 else ''} "
        f"{', '.join(repr(word) for word in dict.fromkeys(words))}{hint}",
        expected=f"colours of {', '.join(REGION_WORDS)}; {known_looks()}",
        do=OTHER_EDITORS,
    )


def _hex(text: str) -> Colour:
    red, green, blue = (int(text[at : at + 2], 16) / 255 for at in (1, 3, 5))
    return red, green, blue


def _shaded(colour: Colour, shade: tuple[float, float] | None) -> Colour:
    if shade is None:
        return colour
    bright, saturated = shade
    grey = sum(colour) / 3
    red, green, blue = (min(1.0, max(0.0, (grey + (part - grey) * saturated) * bright)) for part in colour)
    return red, green, blue
