"""Every error response of an API server has its category."""

import json
from datetime import timedelta

import pytest

from local.kubernetes import recordings
from pullkeeper.cluster.refusals import OwnershipConflict, map_refusal
from tests.core.answers import Answer
from tests.core.kubernetes_answers import ANSWERS, NONSENSE, RECORDED


@pytest.mark.parametrize("answer", [*ANSWERS, *NONSENSE], ids=lambda answer: answer.case)
def test_every_response_has_its_category(answer: Answer) -> None:
    assert type(map_refusal(answer.status, answer.body.encode(), {})) is answer.kind


def test_every_recorded_refusal_has_its_meaning() -> None:
    assert {answer.case for answer in RECORDED} == set(recordings.names()) - {"deleted"}


def test_only_temporary_failures_are_retryable() -> None:
    retryable = {answer.case for answer in ANSWERS if map_refusal(answer.status, answer.body.encode(), {}).retryable}

    assert retryable == {
        "already-exists",
        "apply-uid-of-nothing",
        "delete-uid",
        "json-patch-unfit",
        "modified",
        "no-such-resource",
        "a web server",
        "webhook-down",
        "throttled",
        "timed-out",
        "a proxy without a server",
        "a gateway's page",
        "nothing",
        "an array",
        "causes are null",
        "details are null",
    }


def test_a_conflict_names_each_manager_once() -> None:
    body = (
        '{"message": "Apply failed with 3 conflicts", "details": {"causes": ['
        '{"reason": "FieldManagerConflict", "message": "conflict with \\"kubectl-edit\\" using v1", "field": ".data"},'
        '{"reason": "FieldManagerConflict", "message": "conflict with \\"kubectl-edit\\" using v1", "field": ".type"},'
        '{"reason": "FieldManagerConflict", "message": "conflict with \\"argocd\\"", "field": ".metadata"},'
        '{"reason": "FieldManagerConflict", "message": "conflict with another"}, {"reason": "FieldManagerConflict"}]}}'
    )

    conflict = map_refusal(409, body.encode(), {})

    assert isinstance(conflict, OwnershipConflict)
    assert conflict.managers == ("kubectl-edit", "argocd")
    assert conflict.with_context(cluster="x").managers == ("kubectl-edit", "argocd")


def test_a_manager_whose_name_looks_like_a_token_is_not_named() -> None:
    """A client chooses the name freely, and drift is reported with it."""
    cause = {"reason": "FieldManagerConflict", "message": 'conflict with "ya29.a0AfH6SMBcanarycanary"'}
    conflict = map_refusal(409, json.dumps({"message": "conflict", "details": {"causes": [cause]}}).encode(), {})

    assert isinstance(conflict, OwnershipConflict)
    assert conflict.managers == ("[redacted]",)


def test_an_empty_response_has_its_status_in_the_detail() -> None:
    assert map_refusal(418, b"", {}).detail == "HTTP 418"


def test_retry_after_is_passed_on_whatever_the_body_is() -> None:
    assert map_refusal(429, b"\xff is no text", {"Retry-After": "1"}).retry_after == timedelta(seconds=1)


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.case)
def test_a_token_in_the_response_is_redacted(answer: Answer) -> None:
    token = "ya29.c.canary0123456789"

    assert "canary" not in str(map_refusal(answer.status, answer.body.replace(" ", f" {token} ", 3).encode(), {}))
