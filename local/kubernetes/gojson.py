"""What Go's JSON decoder says of a text. Error messages of the API server carry its words to the caller."""

import json
from collections.abc import Callable
from typing import Any, NoReturn

_SPACE = b" \t\r\n"
_NAMES = {bool: "bool", int: "number", float: "number", str: "string", list: "array", dict: "object"}
_ENDS = "unexpected end of JSON input"
_ESCAPES = {7: r"\a", 8: r"\b", 9: r"\t", 10: r"\n", 11: r"\v", 12: r"\f", 13: r"\r", 39: r"\'", 92: r"\\"}


class GoJsonError(ValueError):
    """A text that is no JSON; the message is Go's."""


def loads(text: bytes, pairs: Callable[[list[tuple[str, Any]]], Any] | None = None) -> Any:
    """The value. `pairs` makes something of an object's members. Raises GoJsonError."""
    try:
        return json.loads(text.decode(errors="replace"), object_pairs_hook=pairs, parse_constant=_refuse)
    except ValueError:
        check(text)  # Python is quick to see that something is wrong, and this says what
        raise GoJsonError("invalid JSON") from None


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is a number to Python only")


def check(text: bytes) -> None:
    """Raises GoJsonError."""
    _Scanner(text).document()


def kind_of(value: object) -> str:
    """As "cannot unmarshal ... into Go value" names it."""
    return _NAMES.get(type(value), "null")


class _Scanner:
    """Go's scanner reads byte by byte, and a blank after the end: that is why `nul` complains of a blank."""

    def __init__(self, text: bytes) -> None:
        self._text = text
        self._at = 0

    def document(self) -> None:
        self._value()
        self._skip(at_end=True)
        if self._at < len(self._text):
            self._fail("after top-level value")

    def _skip(self, *, at_end: bool = False) -> None:
        while self._at < len(self._text) and self._text[self._at] in _SPACE:
            self._at += 1
        if self._at >= len(self._text) and not at_end:
            raise GoJsonError(_ENDS)

    def _peek(self) -> bytes:
        return self._text[self._at : self._at + 1] or b" "

    def _take(self, wanted: bytes) -> bool:
        found = self._peek() in wanted if len(wanted) == 1 else self._peek() in [bytes([one]) for one in wanted]
        self._at += found
        return found

    def _fail(self, where: str) -> NoReturn:
        raise GoJsonError(f"invalid character {_quoted(self._peek()[0])} {where}")

    def _value(self) -> None:
        self._skip()
        first = self._peek()
        if self._take(b"{"):
            self._members()
        elif self._take(b"["):
            self._elements()
        elif self._take(b'"'):
            self._string()
        elif first in b"-0123456789":
            self._number()
        elif first in b"tfn":
            self._literal({b"t": b"true", b"f": b"false", b"n": b"null"}[first])
        else:
            self._fail("looking for beginning of value")

    def _members(self) -> None:
        self._skip()
        if self._take(b"}"):
            return
        while True:
            self._skip()
            if not self._take(b'"'):
                self._fail("looking for beginning of object key string")
            self._string()
            self._skip()
            if not self._take(b":"):
                self._fail("after object key")
            self._value()
            self._skip()
            if self._take(b"}"):
                return
            if not self._take(b","):
                self._fail("after object key:value pair")

    def _elements(self) -> None:
        self._skip()
        if self._take(b"]"):
            return
        while True:
            self._value()
            self._skip()
            if self._take(b"]"):
                return
            if not self._take(b","):
                self._fail("after array element")

    def _string(self) -> None:
        while not self._take(b'"'):
            if self._at >= len(self._text):
                raise GoJsonError(_ENDS)
            if self._peek() < b" ":
                self._fail("in string literal")
            if self._take(b"\\"):
                if self._take(b"u"):
                    self._hexadecimal()
                elif not self._take(b'bfnrt\\/"'):
                    self._fail("in string escape code")
            else:
                self._at += 1

    def _hexadecimal(self) -> None:
        for _ in range(4):
            if not self._take(b"0123456789abcdefABCDEF"):
                self._fail(r"in \u hexadecimal character escape")

    def _number(self) -> None:
        self._take(b"-")
        if not self._take(b"0"):
            self._digits("in numeric literal")
        if self._take(b"."):
            self._digits("after decimal point in numeric literal")
        if self._take(b"eE"):
            self._take(b"+-")
            self._digits("in exponent of numeric literal")

    def _digits(self, where: str) -> None:
        if not self._take(b"0123456789"):
            self._fail(where)
        while self._take(b"0123456789"):
            pass

    def _literal(self, word: bytes) -> None:
        for wanted in word:
            if not self._take(bytes([wanted])):
                self._fail(f"in literal {word.decode()} (expecting {_quoted(wanted)})")


def _quoted(byte: int) -> str:
    if byte in _ESCAPES:
        return f"'{_ESCAPES[byte]}'"
    shown = chr(byte)
    if not shown.isprintable():
        shown = rf"\x{byte:02x}" if byte < 0x80 else rf"\u{byte:04x}"  # noqa: PLR2004 - where ASCII ends
    return f"'{shown}'"
