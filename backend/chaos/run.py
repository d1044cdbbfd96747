"""A chaos run: the seeded schedule, what was counted, and the table of it."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

from backend.chaos.faults import FAULTS
from backend.chaos.scene import Scene
from backend.chaos.watch import Watch, corrupt_files, settle
from shared.client import BackendClient
from shared.errors import EffigyError, EnvironmentFailed

EVERY_S, SPREAD_S, DRAWS = 1.0, 0.7, 12
LOOK_EVERY_S = 1.0

log = logging.getLogger("effigy.chaos")


@dataclass
class Outcome:
    """What a run came to. faults: name -> how often; clients: requests asked, answered, wrong, lost.

    survived: faults after which the backend answered again with nothing new that did not hold. growth_bytes: the most
    that a server grew by, worker_growth_bytes: a render worker, once they had settled.
    """

    seed: int
    seconds: float
    faults: dict[str, int] = field(default_factory=dict)
    clients: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, int] = field(default_factory=dict)
    corrupt_files: int = 0
    survived: int = 0
    growth_bytes: int = 0
    worker_growth_bytes: int = 0
    left_behind: int = 0
    looks: int = 0
    violations: list[str] = field(default_factory=list)

    @property
    def injected(self) -> int:
        """Faults of all kinds."""
        return sum(self.faults.values())

    def as_json(self) -> dict[str, object]:
        """Everything, with the total."""
        return {**asdict(self), "injected": self.injected}


def run_chaos(
    folder: Path,
    seconds: float,
    seed: int,
    *,
    device: str = "cpu",
    tell: Callable[[str], None] = lambda line: None,
    every_s: float = EVERY_S,
) -> Outcome:
    """Disturb a scene in `folder` for so many seconds and return what held.

    every_s: rest between faults on the average, beside the time they take. Raises EnvironmentFailed where not even the
    undisturbed part works, or a server that was ended does not come up again.
    """
    tell("An undisturbed training first, and what each picture must look like")
    scene = Scene(folder, seed, device)
    watch, survival = Watch(), Survival()
    outcome = Outcome(seed, seconds, {name: 0 for name in FAULTS})
    chosen = random.Random(seed)
    names, weights = list(FAULTS), [fault.weight for fault in FAULTS.values()]
    try:
        with scene.client("watch") as client:
            begun, looked_s, ended = time.monotonic(), 0.0, dict[str, object]()
            while (now := time.monotonic()) - begun < seconds:
                name = due(chosen.choices(names, weights, k=DRAWS), ended, scene.reached())
                tell(f"{now - begun:4.0f} s  {name}")
                told = FAULTS[name].act(scene, chosen)
                outcome.faults[name] += told is not None
                survival.injected(told is not None)
                if told is not None:
                    ended |= {what: scene.reached()[what] for what in FAULTS[name].ends}
                if told:
                    watch.violated(f"{name}: {told}")
                rest = time.monotonic() + max(0.1, chosen.uniform(every_s - SPREAD_S, every_s + SPREAD_S))
                while time.monotonic() < rest:
                    if time.monotonic() - looked_s >= LOOK_EVERY_S:
                        looked_s = time.monotonic()
                        survival.looked(_look(scene, watch, client), len(watch.violations))
                    time.sleep(0.05)
            tell("The faults are over: jobs and clients finish")
            outcome.jobs = settle(scene, client, watch)
            survival.looked(True, len(watch.violations))
            for name in scene.without_pictures():
                watch.violated(f"{name} gets no pictures any more")
            scene.end_clients()
        outcome.clients = scene.totals()
        scene.server.stop()
        time.sleep(1.0)
        left = scene.all_processes()
        outcome.left_behind = len(left)
        for process in left:
            watch.violated(f"a process was left behind: {' '.join(process.cmdline()[:6])}")
        outcome.corrupt_files = corrupt_files(scene, watch)
    finally:
        scene.close()
    if outcome.clients["wrong"]:
        watch.violated(f"{outcome.clients['wrong']} pictures were not those that were asked for")
    if outcome.clients["lost"]:
        watch.violated(f"{outcome.clients['lost']} requests were never answered ({'; '.join(scene.why_lost())})")
    outcome.growth_bytes, outcome.looks, outcome.violations = watch.growth_bytes, watch.looks, watch.violations
    outcome.survived, outcome.worker_growth_bytes = survival.survived, watch.worker.growth_bytes
    return outcome


def due(drawn: Sequence[str], ended: Mapping[str, object], reached: Mapping[str, object]) -> str:
    """The first fault drawn that does not end again what has not got on since it was ended last: on a slow machine
    nothing would ever be done. ended: how far each was then; reached: how far it is."""
    fit = (name for name in drawn if all(ended.get(what) != reached[what] for what in FAULTS[name].ends))
    return next(fit, next(name for name in FAULTS if not FAULTS[name].ends))


@dataclass
class Survival:
    """Which faults were followed by a backend that answers, and by nothing that does not hold."""

    survived: int = 0
    _waiting: int = 0
    _violations: int = 0

    def injected(self, count: bool) -> None:
        """A fault was done, or there was nothing to do it to."""
        self._waiting += count

    def looked(self, answered: bool, violations: int) -> None:
        """After a look: whether the backend answered, and how much did not hold until now."""
        if violations > self._violations:
            self._waiting = max(0, self._waiting - (violations - self._violations))
            self._violations = violations
        if answered:
            self.survived, self._waiting = self.survived + self._waiting, 0


def _look(scene: Scene, watch: Watch, client: BackendClient) -> bool:
    """Whether the backend answered."""
    jobs = watch.look(scene, client)
    if jobs is None:
        return False
    try:
        scene.keep_training(client, jobs)
    except EnvironmentFailed as error:
        watch.violated(f"a job was refused: {error}")
    except EffigyError as error:  # the server is not what it was a moment ago; asked again at the next look
        log.debug("not now: %s", error)
    return True
