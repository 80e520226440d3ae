"""Each answer of Google's token services, verbatim, has the one category that tells the operator what to do."""

import json
from datetime import timedelta

import pytest

from pullkeeper import errors
from pullkeeper.publisher import google
from tests.core.answers import Answer
from tests.core.google_answers import KNOWN, UNKNOWN


@pytest.mark.parametrize("answer", KNOWN, ids=lambda answer: answer.case)
def test_every_known_answer_has_its_category(answer: Answer) -> None:
    failure = google.map_refusal(answer.status, answer.body.encode(), {})

    assert type(failure) is answer.kind


@pytest.mark.parametrize("answer", UNKNOWN, ids=lambda answer: answer.case)
def test_a_refusal_that_nobody_knows_is_not_tried_again(answer: Answer) -> None:
    """400 and 403 stay what they are however often one asks: no hot retry."""
    failure = google.map_refusal(answer.status, answer.body.encode(), {})

    assert type(failure) is answer.kind
    assert not failure.retryable
    assert f"HTTP {answer.status}" in failure.detail


@pytest.mark.parametrize(
    "answer", [answer for answer in KNOWN if answer.body.startswith("{")], ids=lambda answer: answer.case
)
def test_what_google_said_is_passed_on(answer: Answer) -> None:
    body = json.loads(answer.body)
    error = body["error"]
    said = error["message"] if isinstance(error, dict) else body.get("error_description", error)

    assert said in google.map_refusal(answer.status, answer.body.encode(), {}).detail


@pytest.mark.parametrize("answer", [*KNOWN, *UNKNOWN], ids=lambda answer: answer.case)
def test_an_answer_that_quotes_the_request_does_not_give_the_token_away(answer: Answer) -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
    body = answer.body.replace('": "', f'": "{token} ', 2) + token

    assert token[:20] not in str(google.map_refusal(answer.status, body.encode(), {}))


@pytest.mark.parametrize(
    ("header", "asked"),
    [
        ("30", timedelta(seconds=30)),
        ("0", timedelta()),
        ("", None),
        ("Fri, 31 Dec 1999 23:59:59 GMT", None),
        ("-1", None),
        ("1.5", None),
        ("\u0663", None),
        ("999999999", timedelta(hours=1)),
        ("9" * 30, None),
        ("9" * 5000, None),
    ],
    ids=lambda value: str(value)[:30],
)
def test_how_long_google_asks_us_to_wait(header: str, asked: timedelta | None) -> None:
    """In whole seconds, and no longer than any wait of ours could be."""
    failure = google.map_refusal(429, b"", {"Retry-After": header})

    assert failure.retry_after == asked


def test_without_a_wish_there_is_none() -> None:
    assert google.map_refusal(503, b"", {}).retry_after is None


def test_a_huge_answer_becomes_a_short_one() -> None:
    failure = google.map_refusal(500, b"<html>" * 100_000, {})

    assert isinstance(failure, errors.GoogleUnavailable)
    assert len(failure.detail) < 700


def test_an_answer_that_is_no_text_is_told_all_the_same() -> None:
    assert "HTTP 500" in google.map_refusal(500, b"\xff\xfe\x00\x80", {}).detail
