"""Which requests a webhook or a policy is about: rules of resources, selectors of namespaces and objects."""

from collections.abc import Iterable, Mapping
from typing import Any

from local.kubernetes.calls import Call, Question
from local.kubernetes.kinds import named
from local.kubernetes.store import Store

Json = dict[str, Any]


def fits(store: Store, question: Question, found: Json) -> bool:
    """`found` is a webhook, or the constraints of a policy or of a binding."""
    call, operation = question.call, question.operation
    rules = found.get("rules", found.get("resourceRules"))
    excluded = found.get("excludeResourceRules") or ()
    if rules is not None and not any(_rule_fits(rule, call, operation) for rule in rules):
        return False
    if any(_rule_fits(rule, call, operation) for rule in excluded):
        return False
    if not _namespace_fits(store, question, found.get("namespaceSelector") or {}):
        return False
    selector = found.get("objectSelector") or {}
    return not selector or any(selects(selector, _labels(body)) for body in question.bodies)


def _rule_fits(rule: Json, call: Call, operation: str) -> bool:
    kind, part = call.kind, call.attributes.subresource
    resource = f"{kind.plural}/{part}" if part else kind.plural
    stars = ("*/*", f"*/{part}", f"{kind.plural}/*") if part else ("*", "*/*")
    scope = rule.get("scope", "*")
    names = rule.get("resourceNames")
    return (
        _has(rule.get("operations"), operation)
        and _has(rule.get("apiGroups"), kind.group)
        and _has(rule.get("apiVersions"), kind.version)
        and any(one == resource or one in stars for one in rule.get("resources") or ())
        and scope in ("*", "Namespaced" if kind.namespaced else "Cluster")
        and (not names or call.attributes.name in names)
    )


def _has(values: Iterable[str] | None, wanted: str) -> bool:
    return any(value in ("*", wanted) for value in values or ())


def _namespace_fits(store: Store, question: Question, selector: Json) -> bool:
    call = question.call
    if not selector:
        return True
    if call.kind.name == "Namespace":
        return any(selects(selector, _labels(body)) for body in question.bodies)
    if not call.kind.namespaced:
        return True
    namespace = store.get(named("namespaces"), "", call.namespace)
    return namespace is not None and selects(selector, _labels(namespace))


def _labels(body: Json) -> Mapping[str, str]:
    labels: Mapping[str, str] = body["metadata"].get("labels", {})
    return labels


def selects(selector: Json, labels: Mapping[str, str]) -> bool:
    """A LabelSelector object against labels."""
    return all(labels.get(name) == value for name, value in (selector.get("matchLabels") or {}).items()) and all(
        _expression_fits(one, labels) for one in selector.get("matchExpressions") or ()
    )


def _expression_fits(expression: Json, labels: Mapping[str, str]) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    match expression["operator"]:
        case "In":
            return key in labels and labels[key] in values
        case "NotIn":
            return labels.get(key) not in values
        case "Exists":
            return key in labels
    return key not in labels
