"""The page as the app sends it: one response, anonymous and without data, under a policy that lets nothing else run."""

import base64
import hashlib
import re

import pytest

from tests.docs.pages import ROOT
from tests.http.conftest import App

pytestmark = [pytest.mark.servers, pytest.mark.asyncio(loop_scope="module")]


async def test_the_page_is_the_same_for_everybody_and_holds_no_data(app: App) -> None:
    before = await app.call("GET", "dashboard", key=None)
    await app.world.join("canary-cluster")
    after = await app.call("GET", "dashboard?state=fresh&hub=main&text=a&cluster=b&operation=c")
    assert (before.status, before.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    assert before.text == after.text
    assert (await app.call("POST", "dashboard")).status == 404


async def test_an_unknown_parameter_is_refused(app: App) -> None:
    assert (await app.call("GET", "dashboard?stat=fresh", key=None)).status == 400


async def test_the_policy_allows_the_pages_own_code_and_calls_alone(app: App) -> None:
    response = await app.call("GET", "dashboard", key=None)
    policy = dict(part.split(" ", 1) for part in response.headers["Content-Security-Policy"].split("; "))
    for tag in ("script", "style"):
        texts = re.findall(rf"<{tag}>(.*?)</{tag}>", response.text, re.DOTALL)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in texts]
        assert policy.pop(f"{tag}-src").split() == [f"'sha256-{digest}'" for digest in digests]
        assert digests
    assert policy == {
        "default-src": "'none'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    names = ("X-Content-Type-Options", "Referrer-Policy", "Cache-Control", "Cross-Origin-Opener-Policy")
    assert [response.headers[name] for name in names] == ["nosniff", "no-referrer", "no-store", "same-origin"]


async def test_the_page_is_one_response(app: App) -> None:
    """Every file of its folder is in it, and it names no other."""
    text = (await app.call("GET", "dashboard", key=None)).text
    assert (
        re.findall(r"""(?:src|href|url\()=?["'](?!data:|#|/\.auth/)[^"']*""", re.sub(r"<script>.*?</script>", "", text))
        == []
    )
    for path in (ROOT / "pullkeeper" / "dashboard").glob("*.[jc]ss*"):
        assert path.read_text(encoding="utf-8") in text, path.name
