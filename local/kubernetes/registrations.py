"""What webhook configurations, admission policies and their bindings forbid."""

from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

from local.kubernetes.status import Cause, quoted, required, unsupported, wrong

Json = dict[str, Any]

_OPERATIONS = ("*", "CONNECT", "CREATE", "DELETE", "UPDATE")
_REASONS = ("Forbidden", "Invalid", "RequestEntityTooLarge")
_ACTIONS = ("Audit", "Deny", "Warn")
_FAILURES = ("Fail", "Ignore")
_SIDE_EFFECTS = ("None", "NoneOnDryRun")
_TIMEOUTS = range(1, 31)
_LABELS = 3


def webhooks(body: Json) -> Iterator[Cause]:
    for index, hook in enumerate(body.get("webhooks") or ()):
        yield from _webhook(hook, f"webhooks[{index}]")


def _webhook(hook: Json, where: str) -> Iterator[Cause]:
    if len(hook["name"].split(".")) < _LABELS:
        said = "should be a domain with at least three segments separated by dots"
        yield wrong(f"{where}.name", quoted(hook["name"]), said)
    for index, rule in enumerate(hook.get("rules") or ()):
        yield from _rule(rule, f"{where}.rules[{index}]")
    if hook["failurePolicy"] not in _FAILURES:
        yield unsupported(f"{where}.failurePolicy", quoted(hook["failurePolicy"]), _FAILURES)
    if "sideEffects" not in hook:
        yield required(f"{where}.sideEffects", f"must specify one of {', '.join(_SIDE_EFFECTS)}")
    elif hook["sideEffects"] not in _SIDE_EFFECTS:
        yield unsupported(f"{where}.sideEffects", quoted(hook["sideEffects"]), _SIDE_EFFECTS)
    if hook["timeoutSeconds"] not in _TIMEOUTS:
        said = "the timeout value must be between 1 and 30 seconds"
        yield wrong(f"{where}.timeoutSeconds", str(hook["timeoutSeconds"]), said)
    if not hook.get("admissionReviewVersions"):
        yield required(f"{where}.admissionReviewVersions", "must specify one of v1, v1beta1")
    config = hook["clientConfig"]
    if ("url" in config) == ("service" in config):
        yield required(f"{where}.clientConfig", "exactly one of url or service is required")
    elif "url" in config and urlsplit(config["url"]).scheme != "https":
        said = "'https' is the only allowed URL scheme; desired format: https://host[/path]"
        yield wrong(f"{where}.clientConfig.url", quoted(urlsplit(config["url"]).scheme), said)


def _rule(rule: Json, where: str) -> Iterator[Cause]:
    for index, operation in enumerate(rule.get("operations") or ()):
        if operation not in _OPERATIONS:
            yield unsupported(f"{where}.operations[{index}]", quoted(operation), _OPERATIONS)
    for name in ("operations", "apiGroups", "apiVersions", "resources"):
        if not rule.get(name):
            yield required(f"{where}.{name}")


def policy(body: Json) -> Iterator[Cause]:
    spec = body["spec"]
    constraints = spec.get("matchConstraints")
    if constraints is None:
        yield required("spec.matchConstraints")
    elif not constraints.get("resourceRules"):
        yield required("spec.matchConstraints.resourceRules")
    else:
        for index, rule in enumerate(constraints["resourceRules"]):
            yield from _rule(rule, f"spec.matchConstraints.resourceRules[{index}]")
    if not (spec.get("validations") or spec.get("auditAnnotations")):
        for name in ("validations", "auditAnnotations"):
            yield required(f"spec.{name}", "validations or auditAnnotations must contain at least one item")
    for index, validation in enumerate(spec.get("validations") or ()):
        where = f"spec.validations[{index}]"
        if not validation.get("expression", "").strip():
            yield required(f"{where}.expression", "expression is not specified")
        if validation.get("reason", "Invalid") not in _REASONS:
            yield unsupported(f"{where}.reason", quoted(validation["reason"]), _REASONS)


def policy_binding(body: Json) -> Iterator[Cause]:
    spec = body["spec"]
    if not spec.get("policyName"):
        yield required("spec.policyName")
    if not spec.get("validationActions"):
        yield required("spec.validationActions")
    for index, action in enumerate(spec.get("validationActions") or ()):
        if action not in _ACTIONS:
            yield unsupported(f"spec.validationActions[{index}]", quoted(action), _ACTIONS)
