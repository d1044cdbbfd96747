"""The render worker: `python -m backend.render_worker`, started by the server. Holds the device, takes one request at
a time and answers it; whatever goes wrong inside is answered too, and only a broken device ends the process.

Whoever lost the backend waits for this process to load, so it loads what a first picture needs and nothing else, beside
the server's own start, and with the garbage collector off (`benchmark start` prints the times).
"""

from __future__ import annotations

import contextlib
import gc
import logging
import sys
import threading
import time
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from avatars.avatar_folder import read_description
from avatars.templates.opening import TemplateReference
from backend.devices import (
    device_memory,
    device_name,
    out_of_memory,
    rasteriser_name,
    resolve_device,
    usable_cores,
    use_cores,
)
from backend.home import Home
from backend.library import Library
from backend.quick_imports import complete_torch, load_numba, load_torch
from backend.worker_link import join_server, worker_parser
from shared import __version__, messages, wire
from shared.desk_messages import Memory
from shared.edit_messages import ListEditors, StartEdit
from shared.errors import BadMessage, EffigyError, WorkerFailed, first_line
from shared.messages import PROTOCOL_VERSION, Failure, Welcome
from shared.pixel_memory import PixelWriter

if TYPE_CHECKING:
    from backend.rendering import Studio

BROKEN_DEVICE_EXIT = 4
MEMORY_EVERY_S = 2.0

log = logging.getLogger("effigy.render_worker")


def answer(studio: Studio, pixels: PixelWriter, message: Any) -> Any:
    """The answer to one request. Raises EffigyError for what the user can mend."""
    match message:
        case messages.RenderRequest():
            reply = studio.render(message)
            memory = pixels.put(reply.images) if message.shared_memory else None
            return reply if memory is None else replace(reply, images=(), memory=memory)
        case messages.PoseGaussians():
            return studio.cloud(message)
        case messages.GetAvatar():
            return studio.detail(message.avatar_id)
        case messages.GetMotion():
            from backend.motion_reading import read_motion_for

            return read_motion_for(studio.avatar(message.avatar_id), message)
        case messages.ListPresets():
            from avatars.captures.embedded import embedded_captures
            from avatars.methods import find_method
            from avatars.training.config import preset_methods, presets

            methods = {name: find_method(method).title for name, method in preset_methods().items()}
            return messages.PresetList(presets(), embedded_captures(), methods)
        case messages.StartTraining():
            from backend.training_run import check_training

            check_training(message)
            return messages.Done()
        case ListEditors():
            from backend.edit_run import list_editors

            return list_editors(studio.library.path(message.avatar_id) if message.avatar_id else None)
        case StartEdit():
            from backend.edit_run import check_edit_request

            check_edit_request(message, studio.library)
            return messages.Done()
        case messages.StartOnline():
            from backend.online_run import check_online

            check_online(message)
            return messages.Done()
    raise BadMessage(f"{type(message).__name__} is nothing for the render worker")


def main() -> int:
    """Serve until the server ends."""
    arguments = worker_parser("Effigy's render worker").parse_args()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    gc.disable()  # nothing that is imported goes again; looking for it takes a tenth of the time
    library = Library(Home(Path(arguments.home)).library)
    link = join_server(arguments, partial(_load, library))
    from avatars.warm_up import load_drawing_kernels
    from backend.rendering import Studio

    device = resolve_device(arguments.device)
    if device != "cpu":
        complete_torch()  # what draws there may compile
    use_cores(usable_cores())
    studio = Studio(library, device)
    pixels = PixelWriter()
    link.send(Welcome(PROTOCOL_VERSION, __version__, "", "", "", device_name(device), rasteriser_name(device)))
    if device == "cpu":
        threading.Thread(target=load_drawing_kernels, name="kernels", daemon=True).start()
    gc.freeze()
    gc.enable()
    told_s = 0.0
    while True:
        envelope = link.receive(MEMORY_EVERY_S)
        if time.monotonic() - told_s >= MEMORY_EVERY_S:
            link.send(Memory(*device_memory(device)))
            told_s = time.monotonic()
        if envelope is None:
            continue
        if isinstance(envelope.message, messages.PutEnvironment):
            studio.put_environment(envelope.message)
            continue
        parts, broken = encoded_answer(studio, pixels, envelope.message, envelope.request_id)
        link.send_parts(parts)
        if broken:
            link.close()
            return BROKEN_DEVICE_EXIT


def encoded_answer(
    studio: Studio, pixels: PixelWriter, message: Any, request_id: int = 0
) -> tuple[list[wire.Part], bool]:
    """The answer to a request, or the failure that stands for it, as parts; and whether the device is broken now.

    A CUDA context does not recover from such errors; a new process does.
    """
    try:
        return wire.encode(answer(studio, pixels, message), request_id=request_id), False
    except EffigyError as error:
        return wire.encode(Failure.of(error), request_id=request_id), False
    except Exception as error:
        log.exception("failed at %s", type(message).__name__)
        failure = failed_at(message, error, "logs/render.log")
        broken = studio.device.startswith("cuda") and "CUDA" in str(error) and not out_of_memory(error)
        return wire.encode(failure, request_id=request_id), broken


def _load(library: Library) -> None:
    """Import what a first picture needs, before the server is known."""
    template = threading.Thread(target=_open_newest_template, args=(library,), name="template", daemon=True)
    template.start()  # unpacking and copying its arrays needs no interpreter, importing torch little else
    load_torch()
    import avatars.scene  # noqa: F401
    import backend.rendering  # noqa: F401

    load_numba()
    template.join()


def _open_newest_template(library: Library) -> None:
    """Have the template in memory of the avatar that was made or renamed last, which is most likely asked for."""
    newest = library.newest()
    if newest is not None:
        with contextlib.suppress(EffigyError):  # whoever asks for that avatar is told
            TemplateReference.from_json(read_description(newest)["template"]).open()


FAILED: Mapping[type, str] = {
    messages.RenderRequest: "The picture could not be rendered",
    messages.PoseGaussians: "The avatar could not be posed",
    messages.GetAvatar: "The avatar could not be opened",
    messages.GetMotion: "The motion could not be read",
    messages.ListPresets: "The presets could not be listed",
    messages.StartTraining: "The training could not be checked, so it was not begun",
    messages.StartOnline: "The live training could not be checked, so it was not begun",
    ListEditors: "The editors could not be listed",
    StartEdit: "The edit could not be checked, so it was not begun",
}
"""What went wrong where something broke that nobody foresaw, by what was asked."""


def failed_at(message: Any, error: Exception, log_name: str) -> Failure:
    """What to answer where a request broke something that nobody foresaw. log_name: where the rest is told."""
    do = f"Look into {log_name} of the data folder"
    if out_of_memory(error):
        drawn = isinstance(message, messages.RenderRequest)
        do = "Ask for a smaller picture, or close what else uses the memory" if drawn else "Close what uses the memory"
    what = FAILED.get(type(message), f"{type(message).__name__} could not be answered")
    return Failure.of(WorkerFailed(what, found=first_line(error), do=do))


if __name__ == "__main__":
    sys.exit(main())
