"""A small part of the Common Expression Language, for admission policies. What it does not know it refuses to compile.

It knows literals, lists, the usual operators, `in`, `?:`, fields and indices, `has()`, `size()`, `startsWith()`,
`endsWith()`, `contains()` and `matches()`; no macros (`all`, `exists`), no arithmetic but `+`, no types.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

Values = Mapping[str, Any]
Expression = Callable[[Values], Any]

_TOKEN = re.compile(
    r"\s*(?:(?P<number>\d+)|(?P<string>'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\")|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<mark>\|\||&&|==|!=|<=|>=|[-+!<>?:.,()\[\]]))"
)
_VARIABLES = ("object", "oldObject", "request", "namespaceObject")
_METHODS: dict[str, Callable[[Any, Any], bool]] = {
    "startsWith": lambda text, part: bool(text.startswith(part)),
    "endsWith": lambda text, part: bool(text.endswith(part)),
    "contains": lambda text, part: part in text,
    "matches": lambda text, pattern: re.search(pattern, text) is not None,
}
_COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "==": lambda left, right: bool(left == right),
    "!=": lambda left, right: bool(left != right),
    "<": lambda left, right: bool(left < right),
    "<=": lambda left, right: bool(left <= right),
    ">": lambda left, right: bool(left > right),
    ">=": lambda left, right: bool(left >= right),
    "in": lambda left, right: left in right,
}


class CelError(Exception):
    """An expression that cannot be compiled here, or that failed: the message is CEL's in the second case."""


def compile_expression(text: str) -> Expression:
    """Raises CelError."""
    parser = _Parser(text)
    expression = parser.ternary()
    parser.end()
    return expression


class _Parser:
    def __init__(self, text: str) -> None:
        self._tokens: list[str] = []
        at = 0
        while text[at:].strip():
            match = _TOKEN.match(text, at)
            if not match:
                raise CelError(f"{text[at:].strip()!r} in {text!r}")
            self._tokens.append(match.group().strip())
            at = match.end()

    def _peek(self) -> str:
        return self._tokens[0] if self._tokens else ""

    def _next(self, wanted: str = "") -> str:
        if not self._tokens or (wanted and self._tokens[0] != wanted):
            raise CelError(f"{wanted or 'more'} expected before {' '.join(self._tokens) or 'the end'}")
        return self._tokens.pop(0)

    def _takes(self, *wanted: str) -> str:
        return self._tokens.pop(0) if self._peek() in wanted else ""

    def end(self) -> None:
        if self._tokens:
            raise CelError(" ".join(self._tokens))

    def ternary(self) -> Expression:
        test = self._either()
        if not self._takes("?"):
            return test
        yes = self.ternary()
        self._next(":")
        no = self.ternary()
        return lambda values: yes(values) if test(values) else no(values)

    def _either(self) -> Expression:
        left = self._both()
        while self._takes("||"):
            left = _or(left, self._both())
        return left

    def _both(self) -> Expression:
        left = self._comparison()
        while self._takes("&&"):
            left = _and(left, self._comparison())
        return left

    def _comparison(self) -> Expression:
        left = self._sum()
        operator = self._takes(*_COMPARE)
        if not operator:
            return left
        right, compare = self._sum(), _COMPARE[operator]
        return lambda values: compare(left(values), right(values))

    def _sum(self) -> Expression:
        left = self._unary()
        while self._takes("+"):
            left = _plus(left, self._unary())
        return left

    def _unary(self) -> Expression:
        if self._takes("!"):
            inner = self._unary()
            return lambda values: not inner(values)
        if self._takes("-"):
            number = self._unary()
            return lambda values: -number(values)
        return self._member()

    def _member(self) -> Expression:
        found = self._primary()
        while mark := self._takes(".", "["):
            if mark == "[":
                found = _get(found, self.ternary())
                self._next("]")
            else:
                name = self._next()
                found = self._method(found, name) if self._takes("(") else _get(found, _constant(name))
        return found

    def _method(self, target: Expression, name: str) -> Expression:
        if name == "size" and self._takes(")"):
            return lambda values: len(target(values))
        method = _METHODS.get(name)
        if method is None:
            raise CelError(f"{name}()")
        argument = self.ternary()
        self._next(")")
        return lambda values: method(target(values), argument(values))

    def _primary(self) -> Expression:
        token = self._next()
        if token == "[":
            return self._list()
        if token == "(" or (token in ("has", "size") and self._takes("(")):
            inner = self.ternary()
            self._next(")")
            wrapped = {"has": _has, "size": _size}.get(token)
            return wrapped(inner) if wrapped else inner
        if token in _VARIABLES:
            return lambda values: values[token]
        return _constant(_literal(token))

    def _list(self) -> Expression:
        items: list[Expression] = []
        while not self._takes("]"):
            items.append(self.ternary())
            if not self._takes(","):
                self._next("]")
                break
        return lambda values: [item(values) for item in items]


def _literal(token: str) -> Any:
    """Raises CelError for a word that is none."""
    constants = {"true": True, "false": False, "null": None}
    if token in constants:
        return constants[token]
    if token.isdigit():
        return int(token)
    if token[0] in "'\"":
        return re.sub(r"\\(.)", r"\1", token[1:-1])
    raise CelError(token)


def _constant(value: Any) -> Expression:
    return lambda _values: value


def _or(left: Expression, right: Expression) -> Expression:
    return lambda values: bool(left(values)) or bool(right(values))


def _and(left: Expression, right: Expression) -> Expression:
    return lambda values: bool(left(values)) and bool(right(values))


def _plus(left: Expression, right: Expression) -> Expression:
    return lambda values: left(values) + right(values)


def _get(target: Expression, key: Expression) -> Expression:
    def got(values: Values) -> Any:
        holder, name = target(values), key(values)
        try:
            return holder[name]
        except (LookupError, TypeError):
            raise CelError(f"no such key: {name}") from None

    return got


def _size(inner: Expression) -> Expression:
    return lambda values: len(inner(values))


def _has(inner: Expression) -> Expression:
    def has(values: Values) -> bool:
        try:
            return inner(values) is not None
        except CelError:
            return False

    return has
