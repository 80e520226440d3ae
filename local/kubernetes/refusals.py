"""How the stand-in refuses: with a recording of the real server, or with 501 for what only the real server decides."""

from typing import Final

from aiohttp import web

from local.kubernetes import recordings
from local.kubernetes.recordings import Recording

_NOT_PLAYED: Final = (
    "The stand-in does not play {what}. It plays the calls that Pullkeeper makes; use a real kube-apiserver "
    "(tests/apiserver/build, pytest marker `real`) for all others."
)


class Refusal(Exception):
    """Ends a call with this answer."""

    def __init__(self, answer: Recording) -> None:
        super().__init__(answer.text)
        self._answer = answer

    @property
    def response(self) -> web.Response:
        return web.Response(status=self._answer.status, headers=self._answer.headers, body=self._answer.text.encode())


def refuse(case: str, **values: str) -> Refusal:
    """The refusal that the real server gave in this case, filled with the values of the call."""
    return Refusal(recordings.load(case).fill(values))


def not_played(what: str) -> Refusal:
    """501. Raised rather than answering something that the real server might not answer."""
    status = {
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": "Failure",
        "message": _NOT_PLAYED.format(what=what),
        "reason": "NotImplemented",
        "code": 501,
    }
    return Refusal(Recording(501, {"Content-Type": "application/json"}, status))
