"""Each answer of an API server, verbatim, has the one category that tells the operator what to do."""

from datetime import timedelta

import pytest

from pullkeeper.cluster.refusals import OwnershipConflict, map_refusal
from tests.core.answers import Answer
from tests.core.kubernetes_answers import ANSWERS, NONSENSE


@pytest.mark.parametrize("answer", [*ANSWERS, *NONSENSE], ids=lambda answer: answer.case)
def test_every_answer_has_its_category(answer: Answer) -> None:
    assert type(map_refusal(answer.status, answer.body.encode(), {})) is answer.kind


def test_a_retry_can_help_where_nobody_has_decided_anything_yet() -> None:
    hopeful = {answer.case for answer in ANSWERS if map_refusal(answer.status, answer.body.encode(), {}).retryable}

    assert hopeful == {
        "another writer was quicker",
        "address unknown",
        "a web server",
        "webhook down",
        "too many requests",
        "server out of breath",
        "etcd gone",
        "took too long",
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
        '{"reason": "FieldManagerConflict", "message": "conflict with \\"argocd\\"", "field": ".metadata"}]}}'
    )

    conflict = map_refusal(409, body.encode(), {})

    assert isinstance(conflict, OwnershipConflict)
    assert conflict.managers == ("kubectl-edit", "argocd")
    assert conflict.with_context(cluster="x").managers == ("kubectl-edit", "argocd")


def test_an_empty_answer_says_at_least_its_status() -> None:
    assert map_refusal(418, b"", {}).detail == "HTTP 418"


@pytest.mark.parametrize(
    ("header", "asked"),
    [("1", timedelta(seconds=1)), ("soon", None), ("", None), ("9" * 30, None), ("9" * 5000, None)],
    ids=lambda value: str(value)[:20],
)
def test_how_long_the_server_asks_us_to_wait(header: str, asked: timedelta | None) -> None:
    assert map_refusal(429, b"Too many requests", {"Retry-After": header}).retry_after == asked


@pytest.mark.parametrize("answer", ANSWERS, ids=lambda answer: answer.case)
def test_an_answer_that_quotes_the_request_does_not_give_the_token_away(answer: Answer) -> None:
    token = "ya29.c.canary0123456789"

    assert "canary" not in str(map_refusal(answer.status, answer.body.replace(" ", f" {token} ", 3).encode(), {}))
