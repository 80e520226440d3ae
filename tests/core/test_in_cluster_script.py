"""What the in-cluster refresher's script does with the answers of each service.

tests/in_cluster runs it as a pod does, on a real API server.
"""

import base64
import json
from datetime import datetime, timedelta
from typing import Any, Final
from urllib.parse import parse_qs

import pytest

from tests.core.pod import DONE, LATER, NEVER, SECRET, TOKEN, Pod

_SECRETS: Final = f"no\nya29.canary {base64.b64encode(b'ya29.canary').decode()} b2F1dGgyYWNjZXNzdG9rZW4 eyJ{'0' * 20}"
"""Each form in which a service may quote a token."""


async def test_a_token_is_proved_and_written(pod: Pod) -> None:
    """Its life is no longer than was requested: Google, or a clock, may say more."""
    code, output = await pod.run()
    assert (code, pod.writes) == (DONE, ["false"])
    assert "space/pull is valid until" in output
    assert [one.path for one in pod.received] == ["/entra", "/sts", "/iam", "/v2/token", "/v2/manifest", SECRET]
    basic = base64.b64encode(f"oauth2accesstoken:{TOKEN}".encode()).decode()
    bearers = ["ya29.d.canary-canary", "registry-token", "api-token-canary-canary"]
    assert [one.authorization for one in pod.received[2:]] == [
        f"Bearer {bearers[0]}",
        f"Basic {basic}",
        *(f"Bearer {one}" for one in bearers[1:]),
    ], "each service gets the token that is for it"
    assert {one.authorization for one in pod.received[:2]} == {""}
    assert parse_qs(pod.received[1].body)["scope"] == ["https://www.googleapis.com/auth/iam"], "it only impersonates"
    assert (pod.received[4].method, pod.received[4].accept) == ("HEAD", "an/index"), "no image is loaded"
    assert json.loads(pod.received[2].body) == {"scope": ["scope"], "lifetime": "600s"}
    written = json.loads(pod.received[-1].body)
    times = written["metadata"]["annotations"]
    issued, expires = (datetime.fromisoformat(times[f"pullkeeper.dev/{name}"]) for name in ("issued-at", "expires-at"))
    assert expires - issued == timedelta(minutes=10)
    auths = json.loads(base64.b64decode(written["data"][".dockerconfigjson"]))["auths"]
    assert {host: entry["password"] for host, entry in auths.items()} == {
        "registry.example": TOKEN,
        "second.example": TOKEN,
    }


async def test_without_impersonation_the_federated_tokens_own_scope_and_life_count(pod: Pod) -> None:
    pod.settings["google"]["impersonationUrl"] = None
    pod.answers["/sts"] = (200, {"access_token": TOKEN, "expires_in": 300}, {})
    assert (await pod.run())[0] == DONE
    assert parse_qs(pod.received[1].body)["scope"] == ["scope"]
    times = json.loads(pod.received[-1].body)["metadata"]["annotations"]
    issued, expires = (datetime.fromisoformat(times[f"pullkeeper.dev/{name}"]) for name in ("issued-at", "expires-at"))
    assert expires - issued == timedelta(minutes=5)
    for life in ({"expires_in": "soon"}, {}):
        pod.answers["/sts"] = (200, {"access_token": TOKEN, **life}, {})
        assert await pod.run() == (LATER, "pullkeeper: google: the response has no valid token")


@pytest.mark.parametrize(
    ("manager", "adopt", "code", "writes"),
    [
        ("pullkeeper", False, DONE, ["false", "true"]),
        ("kubectl-create", True, DONE, ["false", "true"]),
        ("kubectl-create", False, NEVER, ["false"]),
    ],
    ids=["ours", "adopted", "of another owner"],
)
async def test_force_is_for_secrets_that_are_ours_or_adopted(
    pod: Pod, manager: str, code: int, writes: list[str], *, adopt: bool
) -> None:
    pod.manager, pod.settings["adopt"] = manager, adopt
    assert ((await pod.run())[0], pod.writes) == (code, writes)
    looks = [one.query["dryRun"] for one in pod.received if one.query.get("fieldManager") == "pullkeeper-diagnosis"]
    assert looks == ["All"], "to look changes nothing"


@pytest.mark.parametrize(
    ("path", "answer", "code", "what"),
    [
        ("/sts", (400, {"error": "invalid_grant", "error_description": "no"}, {}), NEVER, "google sts: HTTP 400: no"),
        ("/sts", (400, {"message": _SECRETS}, {}), NEVER, f"400: no{' [redacted]' * 4}"),
        ("/sts", (400, {"message": "no", "padding": "x" * 2**16}, {}), NEVER, '400: {"message": "no", "padding": "xx'),
        ("/sts", (400, ["no"], {}), NEVER, 'google sts: HTTP 400: ["no"]'),
        ("/sts", (400, {"errors": None}, {}), NEVER, 'google sts: HTTP 400: {"errors": null}'),
        ("/sts", (500, {}, {}), LATER, "google sts: HTTP 500"),
        ("/sts", (503, {}, {}), LATER, "google sts: HTTP 503"),
        ("/sts", (503, {}, {"Retry-After": "Mon, 30 Nov 2026 06:40:00 GMT"}), LATER, "google sts: HTTP 503"),
        ("/sts", (200, [], {}), LATER, "google sts: the response has no access_token"),
        ("/sts", (302, {}, {"Location": "/elsewhere"}), NEVER, "google sts: HTTP 302"),
        ("/sts", (200, {"padding": "x" * 2**20}, {}), LATER, "did not respond: JSONDecodeError"),
        ("/sts", (200, {}, {"X-Long": "x" * 2**16}), LATER, "did not respond: LineTooLong"),
        ("/iam", (200, {"accessToken": "a b"}, {}), LATER, "google iam: the response has no expireTime"),
        (
            "/iam",
            (200, {"accessToken": "a word " * 9, "expireTime": "2099-01-01T00:00:00Z"}, {}),
            LATER,
            "no valid token",
        ),
        ("/iam", (200, {"accessToken": TOKEN, "expireTime": "2020-01-01T00:00:00Z"}, {}), LATER, "no valid token"),
        ("/iam", (200, {"accessToken": TOKEN, "expireTime": "soon"}, {}), LATER, "google: the response has no valid"),
        ("/iam", (200, {"accessToken": TOKEN, "expireTime": "2099-01-01"}, {}), LATER, "google: the response has no"),
        ("/v2/token", (403, {}, {}), NEVER, "registry: HTTP 403"),
        ("/v2/token", (404, {}, {}), NEVER, "registry: HTTP 404"),
        ("/v2/manifest", (401, {}, {}), NEVER, "registry manifest: HTTP 401"),
        (SECRET, (403, {"message": "may not"}, {}), NEVER, "kubernetes: HTTP 403: may not"),
    ],
)
async def test_a_refusal_ends_the_run(
    pod: Pod, path: str, answer: tuple[int, Any, dict[str, str]], code: int, what: str
) -> None:
    """It is named with its hop, and nothing is called after it."""
    pod.answers[path] = answer
    ended, output = await pod.run()
    assert (ended, what in output) == (code, True), output
    assert len(output.splitlines()) == 1
    assert len(output) < 650
    assert [one.path == path for one in pod.received] == [False] * (len(pod.received) - 1) + [True]
    assert "/elsewhere" not in {one.path for one in pod.received}


@pytest.mark.parametrize(("path", "status"), [("/v2/token", 503), ("/v2/manifest", 503), ("/v2/manifest", 404)])
async def test_a_registry_that_is_down_or_has_lost_the_image_is_reported_and_the_secret_written(
    pod: Pod, path: str, status: int
) -> None:
    """It is asked once: the time is for the calls that matter."""
    pod.answers[path], pod.settings["deadlineSeconds"] = (status, {}, {}), 4
    code, output = await pod.run()
    assert (code, pod.writes) == (DONE, ["false"])
    assert "the secret is written all the same" in output
    assert [one.path for one in pod.received].count(path) == 1


async def test_a_refusal_that_breaks_off_has_its_hop_and_its_status(pod: Pod) -> None:
    pod.broken = "/sts"
    assert await pod.run() == (LATER, "pullkeeper: google sts: HTTP 503: Service Unavailable")


async def test_the_token_does_not_come_back_with_the_response(pod: Pod) -> None:
    pod.manager, pod.settings["probe"]["manifestUrl"] = "pullkeeper", None
    assert (await pod.run())[0] == DONE
    accepted = {one.accept.partition(";")[2].partition(";")[0] for one in pod.received if one.path == SECRET}
    assert accepted == {"as=PartialObjectMetadata"}


async def test_a_token_is_redacted_before_the_text_is_cut(pod: Pod) -> None:
    """What the cut leaves of it has no shape by which it could be recognised."""
    before = "x" * (600 - len("google sts: HTTP 400: ") - 10)
    text = f"{before} eyJ{'Zk7QpWx8' * 10}"
    pod.answers["/sts"] = (400, {"error": "x", "error_description": text}, {})
    _, output = await pod.run()
    assert "eyJ" not in output


async def test_retries_end_with_the_deadline(pod: Pod) -> None:
    pod.answers["/entra"] = (503, {"error": "busy"}, {})
    pod.settings["deadlineSeconds"] = 3
    pod.prelude = "import random; random.uniform = lambda _, high: high"
    code, output = await pod.run()
    assert (code, output) == (LATER, "pullkeeper: entra: HTTP 503: busy")
    assert len(pod.received) == 2, "the second wait is twice as long as the first"
    assert pod.received[1].at - pod.received[0].at >= 1.5, "clusters do not come back together"


async def test_a_call_ends_with_the_deadline(pod: Pod) -> None:
    pod.hangs = True
    code, output = await pod.run()
    assert (code, "did not respond: TimeoutError" in output) == (LATER, True), output


async def test_a_call_after_the_deadline_has_a_second(pod: Pod) -> None:
    """The calls before it may have used all of the time, and succeeded."""
    pod.settings["deadlineSeconds"] = -10
    assert (await pod.run())[0] == DONE


async def test_a_call_that_hangs_leaves_time_for_another_try(pod: Pod) -> None:
    opened = "import sys, urllib.request as one; one.OpenerDirector.open = lambda *_, timeout: sys.exit(int(timeout))"
    pod.prelude, pod.settings["deadlineSeconds"] = opened, 120
    assert (await pod.run())[0] == 40, "seconds: an API server gives up a PATCH after 34"


async def test_a_wait_that_the_deadline_does_not_leave_is_not_begun(pod: Pod) -> None:
    pod.answers["/entra"] = (429, {"error": "busy"}, {"Retry-After": "60"})
    pod.settings["deadlineSeconds"] = 5
    assert await pod.run() == (LATER, "pullkeeper: entra: HTTP 429: busy")
    assert len(pod.received) == 1


async def test_an_unexpected_error_is_named_by_its_type_alone(pod: Pod) -> None:
    del pod.environment["KUBERNETES_SERVICE_HOST"]
    code, output = await pod.run()
    assert (code, output) == (NEVER, "pullkeeper: internal: KeyError")


@pytest.mark.parametrize("content", ["", "two words canary", "canary"])
async def test_a_file_without_a_token_is_not_sent(pod: Pod, content: str) -> None:
    (pod.folder / "subject-token").write_text(content)
    assert await pod.run() == (NEVER, "pullkeeper: pod: subject-token contains no token")
    assert pod.received == []
