"""Every error response of Google's token services has its category."""

import json
from datetime import timedelta

import pytest

from pullkeeper import errors
from pullkeeper.publisher import google
from tests.core.answers import Answer
from tests.core.google_answers import KNOWN, UNKNOWN


@pytest.mark.parametrize("answer", KNOWN, ids=lambda answer: answer.case)
def test_every_known_response_has_its_category(answer: Answer) -> None:
    failure = google.map_refusal(answer.status, answer.body.encode(), {})

    assert type(failure) is answer.kind


@pytest.mark.parametrize("answer", UNKNOWN, ids=lambda answer: answer.case)
def test_an_unknown_refusal_is_not_retried(answer: Answer) -> None:
    failure = google.map_refusal(answer.status, answer.body.encode(), {})

    assert type(failure) is answer.kind
    assert not failure.retryable
    assert f"HTTP {answer.status}" in failure.detail


@pytest.mark.parametrize(
    "answer", [answer for answer in KNOWN if answer.body.startswith("{")], ids=lambda answer: answer.case
)
def test_googles_message_is_in_the_detail(answer: Answer) -> None:
    body = json.loads(answer.body)
    error = body["error"]
    message = error["message"] if isinstance(error, dict) else body.get("error_description", error)

    assert message in google.map_refusal(answer.status, answer.body.encode(), {}).detail


@pytest.mark.parametrize("answer", [*KNOWN, *UNKNOWN], ids=lambda answer: answer.case)
def test_a_token_in_the_response_is_redacted(answer: Answer) -> None:
    token = "eyJhbGciOiJSUzI1NiJ9.eyJvaWQiOiJjYW5hcnkifQ.c2lnbmF0dXJl"
    body = answer.body.replace('": "', f'": "{token} ', 2) + token

    assert token[:20] not in str(google.map_refusal(answer.status, body.encode(), {}))


def test_the_remedy_for_a_disabled_api_names_service_and_project() -> None:
    [answer] = [answer for answer in KNOWN if answer.case == "a disabled API"]

    failure = google.map_refusal(answer.status, answer.body.encode(), {})

    assert "gcloud services enable iamcredentials.googleapis.com --project=889403714106" in failure.remedy


@pytest.mark.parametrize("value", ["x; rm -rf /", "$(id).googleapis.com", "sts.googleapis.com\n", "", None, []])
def test_the_remedy_contains_no_other_text_of_the_response(value: object) -> None:
    """It is pasted into a shell."""
    metadata = {"service": value, "consumer": value and f"projects/{value}"}
    details = ["no reason", 7, {"reason": "SERVICE_DISABLED", "metadata": metadata}]
    error = {"message": "no", "details": details}

    failure = google.map_refusal(403, json.dumps({"error": error}).encode(), {})

    assert "gcloud services enable <service> --project=<consumer>" in failure.remedy


def test_retry_after_is_passed_on() -> None:
    assert google.map_refusal(429, b"", {"Retry-After": "30"}).retry_after == timedelta(seconds=30)


def test_the_detail_of_a_huge_response_is_short() -> None:
    failure = google.map_refusal(500, b"<html>" * 100_000, {})

    assert isinstance(failure, errors.GoogleUnavailable)
    assert len(failure.detail) < 700


def test_a_response_that_is_no_text_has_its_status_in_the_detail() -> None:
    assert "HTTP 500" in google.map_refusal(500, b"\xff\xfe\x00\x80", {}).detail
