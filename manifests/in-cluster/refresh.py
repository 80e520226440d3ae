# ruff: noqa: INP001 - one file that is mounted into a pod, not a package
"""Refreshes one pull secret from inside its cluster, starting with a projected service account token.

Needs only Python's standard library. Beside this file the pod has:

    settings.json   the secret and the services to call (written by pullkeeper/cluster/in_cluster.py)
    subject-token   the projected token at the start of the chain
    api-token       the projected token for the API server, and its ca.crt

Exit code 0: the secret is written. 1: a retry may help. 2: a person has to fix something. One line of output says which
hop failed and why; it never contains a token.
"""

import base64
import json
import os
import random
import re
import ssl
import sys
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib import error, parse, request

POD = Path(__file__).parent
SETTINGS: Mapping[str, Any] = json.loads((POD / "settings.json").read_text())
DEADLINE = time.monotonic() + SETTINGS["deadlineSeconds"]
TIMEOUT = 40  # in seconds: an API server gives up a PATCH after 34
LATER, NEVER = 1, 2
REFUSED = {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}
TOKEN = re.compile(r"[!-~]{16,}")
SECRETS = re.compile(r"eyJ[\w+/=.~-]{10,}|ya29\.[\w.~+/-]+|(?:b2F1dGgy|eWEyOS)[\w+/=-]+")


class Failed(Exception):
    """A hop failed. code: the exit code. status: that of HTTP, 0 without a response. retry_after: the wait that the
    service asked for, in seconds.
    """

    def __init__(self, hop: str, what: str, code: int, *, status: int = 0, retry_after: float = 0) -> None:
        super().__init__(SECRETS.sub("[redacted]", " ".join(f"{hop}: {what}".split()))[:600])
        self.code = code
        self.status = status
        self.retry_after = retry_after


class NoRedirects(request.HTTPRedirectHandler):
    """None of these services redirects; a server that does would get the token."""

    def redirect_request(self, *_: object) -> None:
        return None


def main() -> None:
    subject = read_token("subject-token")
    if SETTINGS["entra"]:
        subject = exchange_at_entra(SETTINGS["entra"], subject)
    token, issued, expires = exchange_at_google(SETTINGS["google"], subject)
    probe(SETTINGS["probe"], token)
    uid = apply(SETTINGS, token, issued, expires)
    report(f"{SETTINGS['namespace']}/{SETTINGS['secret']} is valid until {expires} (uid {uid})")


def exchange_at_entra(entra: Mapping[str, str], assertion: str) -> str:
    """Exchange a token of the cluster for an access token of the managed identity."""
    form = {
        "grant_type": "client_credentials",
        "client_id": entra["clientId"],
        "scope": entra["scope"],
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
    }
    return str(field("entra", post("entra", entra["url"], parse.urlencode(form).encode()), "access_token"))


def exchange_at_google(google: Mapping[str, Any], subject: str) -> tuple[str, str, str]:
    """Exchange the subject token for a Google access token. Returns it with the times of issue and expiry."""
    now = datetime.now(UTC)
    impersonate = google["impersonationUrl"]
    form = {
        "grant_type": "urn:ietf:params:oauth:grant-type:token-exchange",
        "audience": google["audience"],
        # A token that only impersonates needs no other scope.
        "scope": "https://www.googleapis.com/auth/iam" if impersonate else google["scope"],
        "requested_token_type": "urn:ietf:params:oauth:token-type:access_token",
        "subject_token_type": google["subjectTokenType"],
        "subject_token": subject,
    }
    answer = post("google sts", google["tokenUrl"], parse.urlencode(form).encode())
    token = str(field("google sts", answer, "access_token"))
    expires: Any = answer.get("expires_in", 0)
    if impersonate:
        wanted = {"scope": [google["scope"]], "lifetime": f"{google['lifetime']}s"}
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        answer = post("google iam", impersonate, json.dumps(wanted).encode(), headers)
        token = str(field("google iam", answer, "accessToken"))
        expires = field("google iam", answer, "expireTime")
    # A longer life than was requested would mean a wrong clock.
    expiry = min(parse_expiry(expires, now), now + timedelta(seconds=google["lifetime"]))
    if expiry <= now or not TOKEN.fullmatch(token):
        raise Failed("google", "the response has no valid token", LATER)
    return token, now.isoformat(timespec="seconds"), expiry.isoformat(timespec="seconds")


def parse_expiry(expires: Any, now: datetime) -> datetime:
    """Read a time, or seconds from now. Whatever is neither counts as `now`: a token without a life is not valid."""
    try:
        if isinstance(expires, str) and not expires.isdecimal():
            return max(datetime.fromisoformat(expires), now)  # TypeError: a time without a zone
        return now + timedelta(seconds=int(expires))
    except (ArithmeticError, TypeError, ValueError):
        return now


def probe(image: Mapping[str, str], token: str) -> None:
    """Fail if the registry refuses the token, which keeps the last good secret. Other failures are only reported, a
    deleted image among them: a 404 is a refusal only where it comes instead of the right to pull.
    """
    basic = {"Authorization": f"Basic {basic_auth(token)}"}
    refused = {*REFUSED, HTTPStatus.NOT_FOUND}
    try:
        answer = send_once("registry", request.Request(image["tokenUrl"], headers=basic))  # noqa: S310 - https
        refused = REFUSED
        if image["manifestUrl"]:
            bearer = {"Authorization": f"Bearer {field('registry', answer, 'token')}", "Accept": image["accept"]}
            send_once("registry manifest", request.Request(image["manifestUrl"], headers=bearer, method="HEAD"))  # noqa: S310
    except Failed as failed:
        if failed.status in refused:
            raise
        report(f"{failed}; the secret is written all the same")


def apply(settings: Mapping[str, Any], token: str, issued: str, expires: str) -> str:
    """Apply the secret, with force only if it is ours or to be adopted. Returns its uid."""
    entry = {"username": "oauth2accesstoken", "password": token, "auth": basic_auth(token)}
    config = json.dumps({"auths": dict.fromkeys(settings["registries"], entry)}, separators=(",", ":"))
    bare: dict[str, Any] = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {"name": settings["secret"], "namespace": settings["namespace"]},
    }
    metadata = {
        **bare["metadata"],
        "labels": {"app.kubernetes.io/managed-by": "pullkeeper"},
        "annotations": {"pullkeeper.dev/issued-at": issued, "pullkeeper.dev/expires-at": expires},
    }
    data = {".dockerconfigjson": base64.b64encode(config.encode()).decode()}
    whole = {**bare, "metadata": metadata, "type": "kubernetes.io/dockerconfigjson", "data": data}
    try:
        seen = patch(whole, fieldManager="pullkeeper", force="false")
    except Failed as failed:
        if failed.status != HTTPStatus.CONFLICT:
            raise
        # The dry run of an empty apply returns the field managers and no content.
        owners = field("kubernetes", patch(bare, fieldManager="pullkeeper-diagnosis", dryRun="All"), "metadata")
        ours = any(entry.get("manager") == "pullkeeper" for entry in owners.get("managedFields", ()))
        if not ours and not settings["adopt"]:
            raise
        seen = patch(whole, fieldManager="pullkeeper", force="true")
    return str(field("kubernetes", seen, "metadata").get("uid"))


def patch(body: Mapping[str, Any], **query: str) -> dict[str, Any]:
    """Apply server-side. The response has metadata only, so the token does not come back."""
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ["KUBERNETES_SERVICE_PORT"]
    address = f"[{host}]" if ":" in host else host
    path = f"/api/v1/namespaces/{body['metadata']['namespace']}/secrets/{body['metadata']['name']}"
    headers = {
        "Authorization": f"Bearer {read_token('api-token')}",
        "Accept": "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1",
        "Content-Type": "application/apply-patch+yaml",
    }
    url = f"https://{address}:{port}{path}?{parse.urlencode(query)}"
    trust = ssl.create_default_context(cafile=str(POD / "ca.crt"))
    # Python 3.13 switches on RFC 5280 checks that AKS's own CAs have failed. Chain and name are checked all the same.
    trust.verify_flags &= ~ssl.VERIFY_X509_STRICT
    prepared = request.Request(url, json.dumps(body).encode(), headers, method="PATCH")
    return send("kubernetes", prepared, request.ProxyHandler({}), request.HTTPSHandler(context=trust))


def post(hop: str, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> dict[str, Any]:
    if not url.startswith("https://"):
        raise Failed(hop, "the address must be https", NEVER)
    return send(hop, request.Request(url, body, dict(headers or {})))  # noqa: S310 - it is, see above


def send(hop: str, prepared: request.Request, *handlers: request.BaseHandler) -> dict[str, Any]:
    """Send a request, and retry temporary failures until the deadline."""
    wait = 1.0
    while True:
        try:
            return send_once(hop, prepared, *handlers)
        except Failed as failed:
            wait = max(wait, failed.retry_after) * random.uniform(1, 1.5)  # noqa: S311 - spreads load only
            if failed.code != LATER or time.monotonic() + wait > DEADLINE:
                raise
        time.sleep(wait)
        wait *= 2


def send_once(hop: str, prepared: request.Request, *handlers: request.BaseHandler) -> dict[str, Any]:
    """Send a request once. Returns the JSON object of a 2xx response."""
    left = max(1.0, min(TIMEOUT, DEADLINE - time.monotonic()))
    try:
        with request.build_opener(NoRedirects, *handlers).open(prepared, timeout=left) as answer:
            found = json.loads(answer.read(2**20) or "{}")  # HEAD has no body
            return found if isinstance(found, dict) else {}
    except error.HTTPError as refused:
        raise map_refusal(hop, refused) from None
    except (OSError, HTTPException, ValueError) as e:
        reason = getattr(e, "reason", e)
        code = NEVER if isinstance(reason, ssl.SSLCertVerificationError) else LATER
        raise Failed(hop, f"{prepared.host} did not respond: {type(reason).__name__}", code) from None


def map_refusal(hop: str, answer: error.HTTPError) -> Failed:
    """Translate an error response of OAuth 2, Google's APIs, Kubernetes, or anything else."""
    text = ""
    try:
        text = answer.read(2**16).decode(errors="replace")
        body = json.loads(text)
        reason = body.get("error_description") or body.get("message") or (body.get("error") or body["errors"][0])
        what = reason.get("message", reason) if isinstance(reason, dict) else reason
    except (OSError, HTTPException, ValueError, LookupError, TypeError, AttributeError):
        what = text or answer.reason
    temporary = answer.code == HTTPStatus.TOO_MANY_REQUESTS or answer.code >= HTTPStatus.INTERNAL_SERVER_ERROR
    wait = answer.headers.get("Retry-After", "")
    seconds = float(wait) if wait.isascii() and wait.isdecimal() else 0.0
    code = LATER if temporary else NEVER
    return Failed(hop, f"HTTP {answer.code}: {what}", code, status=answer.code, retry_after=seconds)


def field(hop: str, answer: Mapping[str, Any], name: str) -> Any:
    if not answer.get(name):
        raise Failed(hop, f"the response has no {name}", LATER)
    return answer[name]


def read_token(name: str) -> str:
    token = (POD / name).read_text().strip()
    if not TOKEN.fullmatch(token):
        raise Failed("pod", f"{name} contains no token", NEVER)
    return token


def basic_auth(token: str) -> str:
    return base64.b64encode(f"oauth2accesstoken:{token}".encode()).decode()


def report(line: str) -> None:
    sys.stdout.write(f"pullkeeper: {line}\n")


if __name__ == "__main__":
    try:
        main()
    except Failed as failed:
        report(str(failed))
        sys.exit(failed.code)
    except Exception as e:  # noqa: BLE001 - a traceback or a message of Python's might quote a token
        report(f"internal: {type(e).__name__}")
        sys.exit(NEVER)
