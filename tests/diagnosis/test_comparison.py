"""The first difference is marked, so that a reader sees a missing slash."""

import pytest

from pullkeeper.diagnosis.comparison import describe_differences, mark_difference
from pullkeeper.diagnosis.course import build_hop


@pytest.mark.parametrize(
    ("expected", "found", "marked"),
    [
        ("https://a/", "https://a", "character 10: https://a[] instead of '/'"),
        ("https://a", "https://a/", "character 10: https://a[/] instead of the end"),
        (
            "system:serviceaccount:a:b",
            "system:serviceaccount:A:b",
            "character 23: system:serviceaccount:[A]:b instead of 'a'",
        ),
        ("a b", "a\u00a0b", "character 2: a[\u00a0]b instead of U+0020"),
        ("ab", "a\u200bb", "character 2: a[\u200b]b instead of 'b'"),
        ("a\u200bb", "ab", "character 2: a[b] instead of U+200B"),
        ("abc", "", "character 1: [] instead of 'a'"),
    ],
)
def test_the_first_wrong_character_is_in_brackets(expected: str, found: str, marked: str) -> None:
    assert mark_difference(expected, found) == marked


def test_what_is_equal_is_shown_once() -> None:
    evidence = describe_differences({"issuer": "https://a/", "audience": "x"}, {"issuer": "https://a/"})
    assert evidence == {
        "issuer": "https://a/",
        "audience": "nothing",
        "audience expected": "x",
        "audience difference": "character 1: [] instead of 'x'",
    }


def test_what_was_seen_shows_no_token() -> None:
    hop = build_hop("secret", "ok", "found ya29.canary", evidence={"uid": "ya29.canary"})
    assert (hop.detail, hop.evidence) == ("found [redacted]", {"uid": "[redacted]"})
