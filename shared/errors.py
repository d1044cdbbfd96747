"""Errors a user can act on: what was wrong, what was found, what was expected, what to do next.

The add-on shows `str(error)`, the command line prints it, and the wire carries the same four texts, so a failure reads
the same wherever it surfaces. Asserts are for our own bugs; everything a user can cause is one of these.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EffigyError(Exception):
    """A failure told in one or two sentences. `code` names the kind across the wire and in tests."""

    code = "error"

    def __init__(self, what: str, *, found: str = "", expected: str = "", do: str = "") -> None:
        self.what, self.found, self.expected, self.do = what, found, expected, do
        super().__init__(self.sentence())

    def sentence(self) -> str:
        """The whole message: `what (found …; expected …). do`, with absent parts left out."""
        detail = "; ".join(
            part
            for part in (
                f"found {self.found}" if self.found else "",
                f"expected {self.expected}" if self.expected else "",
            )
            if part
        )
        text = self.what.rstrip(".") + (f" ({detail})" if detail else "") + "."
        return f"{text} {self.do.rstrip('.')}." if self.do else text


class BadConfig(EffigyError):
    """A configuration file or override that does not fit its dataclass."""

    code = "bad_config"


class BadAvatar(EffigyError):
    """An avatar folder that is missing, damaged or made for another template."""

    code = "bad_avatar"


class BadCapture(EffigyError):
    """A capture folder that is missing, damaged or inconsistent."""

    code = "bad_capture"


class BadTemplate(EffigyError):
    """A template file that is missing, damaged or of the wrong layout."""

    code = "bad_template"


class BadEnvironment(EffigyError):
    """An environment picture that is missing, damaged or holds light that cannot be."""

    code = "bad_environment"


class BadMessage(EffigyError):
    """A message that does not follow the protocol; nothing of it was used."""

    code = "bad_message"


class VersionMismatch(EffigyError):
    """The two ends speak different protocol versions."""

    code = "version_mismatch"


class NotAllowed(EffigyError):
    """The key was missing or wrong."""

    code = "not_allowed"


class Held(NotAllowed):
    """Another client holds the job and is still there."""

    code = "held"


class Unreachable(EffigyError):
    """No backend answers at the address."""

    code = "unreachable"


class HelloFirst(Unreachable):
    """The backend does not know this connection: it was restarted, or the connection was renewed."""

    code = "hello_first"


class NotFound(EffigyError):
    """The named avatar, job or environment is not known."""

    code = "not_found"


class WorkerFailed(EffigyError):
    """A worker process of the backend stopped or raised; the server is still up."""

    code = "worker_failed"


class Cancelled(EffigyError):
    """The user stopped it."""

    code = "cancelled"


class EnvironmentFailed(EffigyError):
    """The machine cannot do it: port in use, disk full, missing program or device."""

    code = "environment"


ERRORS_BY_CODE: dict[str, type[EffigyError]] = {
    kind.code: kind
    for kind in (
        EffigyError,
        BadConfig,
        BadAvatar,
        BadCapture,
        BadTemplate,
        BadEnvironment,
        BadMessage,
        VersionMismatch,
        NotAllowed,
        Held,
        Unreachable,
        HelloFirst,
        NotFound,
        WorkerFailed,
        Cancelled,
        EnvironmentFailed,
    )
}


def first_line(error: BaseException, most: int = 200) -> str:
    """What an error that is none of ours says, in a line of at most so many letters; its type where it says nothing."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:most]


def nearest(name: str, known: Iterable[str]) -> str:
    """`, did you mean 'x'?` for the closest known name, or an empty text."""
    match = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    return f", did you mean {match[0]!r}?" if match else ""
