"""What ends a command before its time, and the exit codes: those of docs/examples/onboard.sh."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Any, Self


class ExitCode(IntEnum):
    """What a pipeline branches on. USAGE is click's own, INTERRUPTED what a shell reports of a program after Ctrl-C."""

    SUCCEEDED = 0
    FAILED = 1
    USAGE = 2
    AWAITS_PUBLISHER = 3
    NO_RESULT = 4
    INTERRUPTED = 130


class CommandFailed(Exception):
    """message: one sentence. hints: what to do and where to read about it, by name; None is left out."""

    def __init__(
        self, message: str, code: ExitCode = ExitCode.FAILED, hints: Mapping[str, str | None] | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.hints = hints or {}

    @classmethod
    def of_problem(cls, problem: Mapping[str, Any]) -> Self:
        """problem: a problem document (RFC 9457) of the app."""
        hints = {"look at": problem.get("operation"), "remedy": problem.get("remedy"), "runbook": problem.get("type")}
        where = f"HTTP {problem.get('status')}, {problem['category']}"
        return cls(f"refused ({where}): {problem.get('detail')}", hints=hints)


class Unavailable(CommandFailed):
    """The app did not respond, or cannot at the moment: the same request may succeed later."""
