"""The types that hold credentials, and the times that follow from a token's life.

Every time in Pullkeeper is a fraction of the token's life (an hour, unless a hub says otherwise), so a fleet with
ten-minute tokens keeps the same promises as one with hour-long ones:

    0       1/12            1/3     5/12     1/2                     1
    |-written-|              |--due---|-------|                      |
    minted    a new one is   a third after    replaced by here       expired
              minted         it was written   (the promise)

While no new one can be minted, the held one is written until 1/6. Between the last moment at which a replacement
starts and expiry lies half a life: an outage of 5/12 (25 of 60 minutes), and 1/12 until the next try.
"""

import re
from collections.abc import Callable
from dataclasses import InitVar, dataclass
from datetime import datetime, timedelta
from typing import NoReturn, Self, TypeGuard

_TOKEN = re.compile(r"[!-~]+")


def is_token(text: object) -> TypeGuard[str]:
    """Whether the text may be sent in a header: ASCII without blanks and control characters."""
    return isinstance(text, str) and _TOKEN.fullmatch(text) is not None


class _Sealed:
    """A text that only `reveal` returns. It is kept in a closure rather than in a field, so that printing, formatting,
    copying, pickling and inspecting do not show it.
    """

    __slots__: tuple[str, ...] = ("_sealed",)
    _sealed: Callable[[], str]

    def reveal(self) -> str:
        """Return the text. The caller sends it to its service, and stores it nowhere."""
        return self._sealed()

    def _seal(self, text: str) -> None:
        object.__setattr__(self, "_sealed", lambda: text)

    def _key(self) -> tuple[object, ...]:
        return self.reveal(), *(getattr(self, name) for name in self.__slots__)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Sealed) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"{type(self).__name__}([redacted])"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a credential must not be pickled")

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Token(_Sealed):
    """A bearer token and its life."""

    text: InitVar[str]
    issued_at: datetime
    expires_at: datetime

    def __post_init__(self, text: str) -> None:
        self._seal(text)

    @property
    def life(self) -> timedelta:
        return self.expires_at - self.issued_at

    def is_new(self, now: datetime) -> bool:
        """Whether at most 1/12 of its life has passed."""
        return self.issued_at <= now <= self.issued_at + self.life / 12

    @property
    def writable_until(self) -> datetime:
        """Return when 5/6 of its life are left."""
        return self.issued_at + self.life / 6

    def may_be_written(self, now: datetime) -> bool:
        """Whether at least 5/6 of its life is left."""
        return self.issued_at <= now <= self.writable_until < self.expires_at


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class EntraToken(_Sealed):
    """A bearer token of our own identity for one resource. azure-identity tracks its life."""

    text: InitVar[str]

    def __post_init__(self, text: str) -> None:
        self._seal(text)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class ClientCertificate(_Sealed):
    """The certificate (PEM) of clusters without Entra integration, kept in memory only. Only the key is secret."""

    certificate: str
    private_key: InitVar[str]

    def __post_init__(self, private_key: str) -> None:
        self._seal(private_key)

    @property
    def key(self) -> str:
        return self.reveal()
