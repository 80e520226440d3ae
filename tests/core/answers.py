"""One row of the tables of error responses in this folder."""

from dataclasses import dataclass

from pullkeeper.errors import PullkeeperError


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP error response, and the failure that it means."""

    case: str
    status: int
    body: str
    kind: type[PullkeeperError]
