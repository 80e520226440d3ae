"""Quantities as the API server writes them back: `1000m` becomes `1`, `0.5Gi` becomes `512Mi`.

It matters to server-side apply: who applies a quantity in another spelling than the canonical one conflicts with
whoever owns the same amount.
"""

import re
from decimal import Decimal

_FORM = re.compile(r"([+-]?(?:\d+\.?\d*|\.\d+))(Ki|Mi|Gi|Ti|Pi|Ei|n|u|m|k|M|G|T|P|E|[eE][+-]?\d+)?")
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}
_BINARY = {"Ki": 1, "Mi": 2, "Gi": 3, "Ti": 4, "Pi": 5, "Ei": 6}
_KIBI = 1024


def value_of(text: str | float) -> Decimal:
    """Raises ValueError with the server's words."""
    match = _FORM.fullmatch(str(text))
    if not match:
        pattern = "^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
        raise ValueError(f"quantities must match the regular expression '{pattern}'")
    number, suffix = Decimal(match[1]), match[2] or ""
    if suffix in _BINARY:
        return number * Decimal(_KIBI) ** _BINARY[suffix]
    exponent = _DECIMAL[suffix] if suffix in _DECIMAL else int(suffix[1:])
    return number.scaleb(exponent)


def canonical(text: str | float) -> str:
    """Raises ValueError."""
    amount = value_of(text)
    # Fractions of a nano are rounded up, as the server does.
    amount = amount.quantize(Decimal("1e-9"), rounding="ROUND_UP") if amount % Decimal("1e-9") else amount
    if amount == 0:
        return "0"
    if str(text).endswith("i") and amount == amount.to_integral() and abs(amount) >= _KIBI:
        return _binary(int(amount))
    if re.search(r"[eE][+-]?\d+$", str(text)):
        return _decimal(amount, exponents=True)
    return _decimal(amount, exponents=False)


def _binary(amount: int) -> str:
    for suffix, power in reversed(_BINARY.items()):
        if amount % _KIBI**power == 0:
            return f"{amount // _KIBI**power}{suffix}"
    return str(amount)


def _decimal(amount: Decimal, *, exponents: bool) -> str:
    for suffix, power in reversed(_DECIMAL.items()):
        scaled = amount.scaleb(-power)
        if scaled == scaled.to_integral():
            shown = f"e{power}" if exponents and power else suffix
            return f"{int(scaled)}{shown}"
    return str(amount)
