"""What is kept of one region of a 3D view between two draws."""

from __future__ import annotations

from .bones import Bones
from .frames import FrameThread
from .painter import Painter
from .plan import Plan

BESIDE = "/beside"


class View:
    """One region of a 3D view. number: of the picture it shows, -1 for none; showing: the avatars in it.

    other: the picture of its left side while two versions are compared.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.plan = Plan()
        self.painter = Painter()
        self.bones = Bones()
        self.number = -1
        self.shading = ""
        self.has_avatars = self.sharp = False
        self.showing: frozenset[str] = frozenset()
        self.problem = ""
        self.other: View | None = None

    def beside(self) -> View:
        """The other side of a comparison."""
        if self.other is None:
            self.other = View(self.name + BESIDE)
        return self.other

    def alone(self, thread: FrameThread) -> None:
        """Nothing is compared any more."""
        if self.other is not None:
            thread.forget((self.other.name,))
            self.other = None

    def names(self) -> tuple[str, ...]:
        """By which the frame thread knows its pictures."""
        return (self.name,) if self.other is None else (self.name, self.other.name)

    def refinement_is_due(self, now_s: float) -> bool:
        """Whether it stands still with a small picture."""
        return any(part.plan.refinement_is_due(now_s) for part in (self, self.other) if part is not None)

    def again(self) -> None:
        """Ask anew at the next draw."""
        for part in (self, self.other):
            if part is not None:
                part.plan.again()

    def forget_picture(self) -> None:
        """The pictures are gone."""
        self.again()
        self.number, self.showing = -1, frozenset()
        if self.other is not None:
            self.other.number = -1
