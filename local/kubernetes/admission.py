"""Validating admission policies: Pullkeeper's own, stored and not enforced. What a policy does, and whether its CEL
compiles, only the real server shows.
"""

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from local.kubernetes import names
from local.kubernetes.defaults import BY_STRUCT
from pullkeeper.cluster.manifests import load

Json = dict[str, Any]

_MANIFEST: Final = load("refresher-policy")["spec"]
_BY_VALUE: Final = re.compile(
    r'request\.userInfo\.username == "[\w:-]+"|variables\.(?P<name>\w+)1 \+ variables\.(?P=name)2'
)


def policy_problems(made: Json) -> Iterator[str]:
    """What is not in the manifest of onboarding, other than its values."""
    spec = made["spec"]
    if not {**spec, "matchConstraints": {}}.keys() <= _MANIFEST.keys():
        yield f"a policy with {sorted(spec)}"
    known = set(_expressions(_MANIFEST))
    for expression in _expressions(spec):
        if expression not in known and not _BY_VALUE.fullmatch(expression) and not _is_json(expression):
            yield f"the expression {expression}"
    rules = [
        {**BY_STRUCT["NamedRuleWithOperations"], **rule} for rule in _MANIFEST["matchConstraints"]["resourceRules"]
    ]
    if spec.get("matchConstraints") != {**BY_STRUCT["MatchResources"], "resourceRules": rules}:
        yield "the constraints of a policy"
    if not spec.get("validations") or not all(one.keys() <= {"expression", "message"} for one in spec["validations"]):
        yield "the validations of a policy"


def binding_problems(made: Json) -> Iterator[str]:
    spec = made["spec"]
    named = re.fullmatch(names.SUBDOMAIN, spec.get("policyName", ""))
    if not named or spec != {"policyName": spec["policyName"], "validationActions": ["Deny"]}:
        yield f"the binding of a policy {spec}"


def _expressions(spec: Json) -> Iterator[str]:
    for part in ("matchConditions", "variables", "validations"):
        yield from (one["expression"] for one in spec.get(part, ()))


def _is_json(expression: str) -> bool:
    try:
        json.loads(expression)
    except ValueError:
        return False
    return True
