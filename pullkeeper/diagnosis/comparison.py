"""What Azure and Google compare character by character, compared so that a reader sees the difference."""

from collections.abc import Mapping


def describe_differences(expected: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """Return evidence by name: the value where both are equal, else what was found, what should be there, and where
    they begin to differ.
    """
    evidence = {}
    for name, wanted in expected.items():
        value = found.get(name, "")
        evidence[name] = value or "nothing"
        if value != wanted:
            evidence[f"{name} expected"] = wanted
            evidence[f"{name} difference"] = mark_difference(wanted, value)
    return evidence


def mark_difference(expected: str, found: str) -> str:
    """Return the found text with its first wrong character in brackets, and what should be there."""
    start = count_equal(expected, found)
    wrong, right = found[start : start + 1], expected[start : start + 1]
    instead = f"instead of {_quote(right)}" if right else "instead of the end"
    return f"character {start + 1}: {found[:start]}[{wrong}]{found[start + 1 :]} {instead}"


def count_equal(one: str, other: str) -> int:
    """Return how many characters are equal from the start."""
    pairs = zip(one, other, strict=False)
    return next((number for number, (a, b) in enumerate(pairs) if a != b), min(len(one), len(other)))


def _quote(character: str) -> str:
    """A character that cannot be seen by its number."""
    return f"'{character}'" if character.isprintable() and not character.isspace() else f"U+{ord(character):04X}"
