"""Painter's name in the vocabulary -> the function that paints."""

from __future__ import annotations

from collections.abc import Mapping

from avatars.text_edit.editors import materials, paints, people, tones
from avatars.text_edit.editors.materials import Painter

PAINTERS: Mapping[str, Painter] = {
    "metal": materials.metal,
    "marble": materials.marble,
    "stone": materials.stone,
    "clay": materials.clay,
    "wood": materials.wood,
    "glassy": materials.glassy,
    "lava": materials.lava,
    "recolour": tones.recolour,
    "tone": tones.tone,
    "duotone": tones.duotone,
    "sketch": tones.sketch,
    "cartoon": tones.cartoon,
    "halftone": tones.halftone,
    "glow": tones.glow,
    "hologram": tones.hologram,
    "plain": paints.plain,
    "stripes": paints.stripes,
    "dots": paints.dots,
    "tiger": paints.tiger,
    "cat": paints.cat,
    "spots": paints.spots,
    "clown": paints.clown,
    "skull": paints.skull,
    "halves": paints.halves,
    "war": paints.war,
    "domino": paints.domino,
    "camouflage": paints.camouflage,
    "scales": paints.scales,
    "galaxy": paints.galaxy,
    "tattoo": paints.tattoo,
    "aged": people.aged,
    "zombie": people.zombie,
    "vampire": people.vampire,
    "joker": people.joker,
    "goth": people.goth,
    "frost": people.frost,
    "freckles": people.freckles,
    "make_up": people.make_up,
    "lipstick": people.lipstick,
    "stubble": people.stubble,
    "complexion": people.complexion,
    "dirt": people.dirt,
    "bruised": people.bruised,
}
