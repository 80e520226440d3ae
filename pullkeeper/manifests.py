"""The manifests that make a cluster ready: YAML that is parsed first, and values put into the parsed tree.

Never templated as text: no value can become structure.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

import yaml

from pullkeeper.model import Target

_FOLDER: Final = Path(__file__).parent.parent / "manifests"


def refresher_access(targets: Iterable[Target], principal: str) -> Iterator[dict[str, Any]]:
    """Namespace, role and role binding for every namespace among the targets, in the order to apply them.

    principal: the object id of the identity that refreshes.
    """
    by_namespace: dict[str, list[Target]] = defaultdict(list)
    for target in targets:
        by_namespace[target.namespace].append(target)
    for namespace, within in by_namespace.items():
        yield _namespace(namespace)
        yield _role(namespace, within)
        yield _binding(namespace, principal)


def _namespace(name: str) -> dict[str, Any]:
    manifest = _load("namespace")
    manifest["metadata"]["name"] = name
    return manifest


def _role(namespace: str, targets: list[Target]) -> dict[str, Any]:
    manifest = _load("refresher-role")
    manifest["metadata"]["namespace"] = namespace
    secrets, accounts = manifest["rules"]
    secrets["resourceNames"] = sorted({target.secret for target in targets})
    accounts["resourceNames"] = sorted({name for target in targets for name in target.service_accounts})
    # A rule without names would mean every service account.
    manifest["rules"] = [rule for rule in (secrets, accounts) if rule["resourceNames"]]
    return manifest


def _binding(namespace: str, principal: str) -> dict[str, Any]:
    manifest = _load("refresher-rolebinding")
    manifest["metadata"]["namespace"] = namespace
    manifest["subjects"][0]["name"] = principal
    return manifest


def _load(name: str) -> dict[str, Any]:
    manifest: dict[str, Any] = yaml.safe_load((_FOLDER / f"{name}.yaml").read_text(encoding="utf-8"))
    return manifest
