"""The one family of errors that the collection raises for its users."""

from __future__ import annotations

from typing import Any


class GoldenError(Exception):
    """Something that the user can act on.

    The message names the object and the remedy. ``facts`` are added to the failed result beside ``msg``.
    """

    def __init__(self, message: str, **facts: Any) -> None:
        super().__init__(message)
        self.message = message
        self.facts = facts


class NotFoundError(GoldenError):
    """A named object does not exist."""


class RefusedError(GoldenError):
    """A rule of the collection forbids what was asked for; nothing has changed."""


class InvalidError(GoldenError):
    """An option, a file or a stored text is not what it must be."""


class ExistsError(GoldenError):
    """An object of that name is there already: another task was first."""


class TimedOutError(GoldenError):
    """What was waited for did not happen in time."""


class UnhealthyError(GoldenError):
    """A VM did not pass its health check."""


class HypervisorError(GoldenError):
    """libvirt refused a call; the message holds what it said."""


class DeniedError(HypervisorError):
    """libvirt's access control forbids something; the message names the permission and the object."""


class ReadOnlyError(DeniedError):
    """A connection that may only look does not show or do this."""
