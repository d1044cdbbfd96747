"""One edit from request to library, the same for the train worker and for `edit --local`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from backend.edit_requests import check_request
from backend.library import Library, check_name
from backend.training_run import Heard, Outcome, adopted, check_number, finished_run
from shared.edit_messages import EditorInfo, EditorList, Look, StartEdit
from shared.errors import BadAvatar, BadConfig, EnvironmentFailed, nearest

if TYPE_CHECKING:
    from avatars.training.config import TrainConfig
    from avatars.training.progress import TrainResult


def list_editors(avatar_folder: Path | None) -> EditorList:
    """Who can edit here, and the regions of an avatar. Raises BadAvatar."""
    from avatars.text_edit.editors import editor_facts
    from avatars.text_edit.run import regions_of

    editors = tuple(
        EditorInfo(
            facts.name,
            facts.title,
            facts.licence,
            facts.problem,
            facts.text_guidance,
            facts.image_guidance,
            tuple(Look(look.name, look.prompt, look.about) for look in facts.looks),
        )
        for facts in editor_facts()
    )
    return EditorList(editors, () if avatar_folder is None else tuple(regions_of(avatar_folder)))


def edit_values(asked: StartEdit) -> dict[str, str]:
    """What a request gives a value, as texts of the edit's configuration."""
    return {
        "prompt": asked.prompt.strip(),
        "editor": asked.editor,
        "region": asked.region,
        "strength": repr(asked.strength),
        "text_guidance": repr(asked.text_guidance),
        "image_guidance": repr(asked.image_guidance),
        "seed": str(asked.seed),
        **asked.overrides,
    }


def check_edit_request(asked: StartEdit, library: Library) -> None:
    """Raises BadConfig, BadAvatar, BadCapture, …: what a user should read now, not when the job's turn comes."""
    from avatars.text_edit.run import check_edit, edit_config

    check_name(asked.name)
    check_number(asked.gpus)
    check_request(asked)
    check_editor(asked.editor)
    folder = pinned_avatar(asked, library)
    check_edit(edit_config(edit_values(asked)), folder, asked.capture, painted(asked))


def check_editor(name: str) -> None:
    """Raises BadConfig for an editor that there is not, EnvironmentFailed for one that cannot be used here."""
    from avatars.text_edit.editors import editor_facts

    known = {facts.name: facts for facts in editor_facts()}
    if name not in known:
        raise BadConfig(f"There is no editor {name[:80]!r}{nearest(name, known)}", expected=", ".join(known))
    if known[name].problem:
        raise EnvironmentFailed(known[name].problem.rstrip("."))


def painted(asked: StartEdit) -> NDArray[np.float32] | None:
    """The painted weights [V], None where nothing was painted."""
    return np.array(asked.weights, np.float32) if len(asked.weights) else None


def pinned_avatar(asked: StartEdit, library: Library) -> Path:
    """The avatar's folder. Raises NotFound, and BadAvatar where it is another one than was asked for."""
    from avatars.avatar_folder import avatar_digest

    folder = library.path(asked.avatar_id)
    if asked.digest and avatar_digest(folder) != asked.digest:
        raise BadAvatar(
            f"Avatar {asked.avatar_id} is not the one that was asked for",
            do="Use the backend's version (Animate panel), or put the earlier one back into the library",
        )
    return folder


def run_edit(
    asked: StartEdit,
    folder: Path,
    library: Library,
    device: str,
    on_event: Callable[[Any], None],
    wanted: Callable[[], str],
) -> Outcome:
    """Edit (or go on from the folder's checkpoints) and move the new version into the library; its parent stays.

    On several GPUs where asked.gpus says so, in processes of their own. on_event: called with avatars.training's
    Progress. wanted: '', 'pause' or 'cancel', asked between steps.
    """
    from avatars.text_edit.run import edit_config

    earlier = finished_run(folder, library)
    if earlier is not None:
        return earlier
    check_edit_request(asked, library)
    config, heard = edit_config(edit_values(asked)), Heard(on_event)
    return adopted(
        lambda: edited(
            config,
            pinned_avatar(asked, library),
            asked.capture,
            folder,
            name=asked.name,
            device=device,
            weights=painted(asked),
            on_event=heard,
            wanted=wanted,
            gpus=asked.gpus,
        ),
        folder,
        library,
        asked.name,
        heard.say,
        wanted,
    )


def edited(
    config: TrainConfig,
    avatar_folder: Path,
    capture: str,
    folder: Path,
    *,
    name: str,
    device: str,
    weights: NDArray[np.float32] | None,
    on_event: Callable[[Any], None],
    wanted: Callable[[], str],
    gpus: int = 1,
) -> TrainResult:
    """avatars.text_edit.run.edit, in this process or on several GPUs in processes of their own."""
    from avatars.text_edit.run import edit, with_painted

    if gpus == 1:
        return edit(
            config,
            avatar_folder,
            capture,
            folder,
            name=name,
            device=device,
            weights=weights,
            on_event=on_event,
            wanted=wanted,
        )
    from backend.on_gpus import run_on_gpus
    from backend.rank_orders import edit_order

    order = edit_order(with_painted(config, weights, folder), avatar_folder, capture, name)
    return run_on_gpus(order, gpus, folder, device, on_event, wanted)
