"""How the tables of this folder write down what a service answers."""

from dataclasses import dataclass

from pullkeeper.errors import PullkeeperError


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer that is no success, and the failure that it stands for."""

    case: str
    status: int
    body: str
    kind: type[PullkeeperError]
