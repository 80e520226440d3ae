"""What the YAML files of this folder hold: requests to an API server, one step each, and how they are sent.

A step has the method and the path (`get: "{secret}"`; `apply`, `merge`, `json-patch` and `strategic` are kinds of
PATCH) and may have `body`, `query`, `accept`, `by` (who sends it, in place of the administrator), the `status` that is
expected, and `until`, a status until which it is sent again. The step `grant` gives the app's identity verbs on the
pull secret, or whole rules. Any text may quote {namespace}, {user}, the addresses of objects in the namespace, and the
{uid} and the {first_version} of the first answer, and the {continue} token of the last page.
"""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final

import yaml

from local.azure.entra import Entra, Identity
from local.clock import Clock
from local.kubernetes.apiserver import AKS_SERVER_APPLICATION
from tests.contract.cluster import Cluster
from tests.contract.conversation import (
    APPLY,
    JSON_PATCH,
    MERGE,
    METADATA_LIST,
    METADATA_ONLY,
    STRATEGIC,
    Answer,
    Caller,
    Json,
    until,
)

_JSON: Final = "application/json"
_METHODS: Final = {
    "get": ("GET", _JSON),
    "post": ("POST", _JSON),
    "post-text": ("POST", "text/plain"),
    "put": ("PUT", _JSON),
    "delete": ("DELETE", _JSON),
    "apply": ("PATCH", APPLY),
    "merge": ("PATCH", MERGE),
    "json-patch": ("PATCH", JSON_PATCH),
    "strategic": ("PATCH", STRATEGIC),
    "patch": ("PATCH", _JSON),
    "patch-text": ("PATCH", "text/plain"),
}
_PULL_SECRET: Final = {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["ar-pull-secret"]}


class _Loader(yaml.CSafeLoader):
    """Knows `!base64 text` and `!repeat [text, times]` too."""


_Loader.add_constructor("!base64", lambda _, node: base64.b64encode(node.value.encode()).decode())
_Loader.add_constructor("!repeat", lambda _, node: node.value[0].value * int(node.value[1].value))


def load(name: str, folder: Path = Path(__file__).parent) -> dict[str, Any]:
    """A YAML file, without the definitions for its anchors."""
    found: dict[str, Any] = yaml.load((folder / name).read_text(encoding="utf-8"), _Loader)
    found.pop("definitions", None)
    return found


@dataclass(frozen=True, slots=True)
class Stage:
    """A cluster with a namespace of the test's own, and an identity without rights."""

    cluster: Cluster
    identity: Identity
    namespace: str

    @classmethod
    async def open(cls, cluster: Cluster, identity: Identity) -> "Stage":
        return cls(cluster, identity, await cluster.namespace())

    async def send(self, steps: Sequence[Json], by: str = "admin") -> list[Answer]:
        """Send each step, and check its status if it has one. by: who sends the steps that do not say."""
        answers: list[Answer] = []
        for step in steps:
            if "grant" in step:
                rules = [
                    rule if isinstance(rule, dict) else {**_PULL_SECRET, "verbs": [rule]} for rule in step["grant"]
                ]
                await self.cluster.grant(self.namespace, self.identity, *rules)
            else:
                answers.append(await self._answer({"by": by, **self.fill(step, answers)}))
                expected = step.get("status", answers[-1].status)
                assert answers[-1].status == expected, answers[-1].text[:500]
        return answers

    def fill(self, value: Any, answers: Sequence[Answer] = ()) -> Any:
        """The value with everything that it quotes."""
        text = json.dumps(value)
        for name, quoted in self._addresses().items():
            text = text.replace(f"{{{name}}}", quoted)
        for name, field in {"uid": "uid", "first_version": "resourceVersion"}.items():
            if f"{{{name}}}" in text:
                text = text.replace(f"{{{name}}}", answers[0].body["metadata"][field])
        if "{continue}" in text:
            text = text.replace("{continue}", next(filter(None, map(_continue_token, reversed(answers)))))
        return json.loads(text)

    def _addresses(self) -> Mapping[str, str]:
        place = f"v1/namespaces/{self.namespace}"
        return {
            "namespace": self.namespace,
            "user": self.identity.principal_id,
            "here": f"/api/{place}",
            "secrets": f"/api/{place}/secrets",
            "secret": f"/api/{place}/secrets/ar-pull-secret",
            "accounts": f"/api/{place}/serviceaccounts",
            "account": f"/api/{place}/serviceaccounts/app",
            "quotas": f"/api/{place}/resourcequotas",
            "jobs": f"/apis/batch/{place}/cronjobs",
            "job": f"/apis/batch/{place}/cronjobs/ar-pull-secret",
            "deployments": f"/apis/apps/{place}/deployments",
        }

    async def _answer(self, step: Json) -> Answer:
        name = next(name for name in _METHODS if name in step)
        method, content_type = _METHODS[name]
        shape = str(step.get("accept", _JSON))
        accept = {"metadata": METADATA_ONLY, "list": METADATA_LIST}.get(shape, shape)
        query = ({"fieldManager": "pullkeeper"} if name == "apply" else {}) | step.get("query", {})
        caller = self._caller(step["by"])

        async def ask() -> Answer:
            return await caller.send(
                method, step[name], step.get("body"), content_type=content_type, accept=accept, **query
            )

        return await until(ask, lambda answer: answer.status == step.get("until", answer.status))

    def _caller(self, name: str) -> Caller:
        """Whom the name means: a caller, a token with a fault, or the token itself."""
        cluster, entra = self.cluster, self.cluster.entra
        if name in {"admin", "stranger"}:
            return cluster.admin if name == "admin" else cluster.stranger
        if name == "expired":
            late = timedelta(seconds=-5)
            return cluster.bearer(entra.token(self.identity, AKS_SERVER_APPLICATION, lifetime=late))
        if name == "another audience":
            return cluster.bearer(entra.token(self.identity, "https://management.azure.com/"))
        if name == "another tenant":
            return cluster.bearer(Entra(Clock()).token(self.identity, AKS_SERVER_APPLICATION))
        return cluster.caller(self.identity) if name == "app" else cluster.bearer(name)


def _continue_token(answer: Answer) -> str:
    token: str = answer.body["metadata"].get("continue", "")
    return token
