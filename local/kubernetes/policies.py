"""Validating admission policies and their bindings, as far as cel.py understands their expressions."""

from typing import Any

from local.kubernetes import cel, matching, status
from local.kubernetes.calls import Question
from local.kubernetes.kinds import named
from local.kubernetes.store import Store

Json = dict[str, Any]

_UNKNOWN = ("paramKind", "paramRef", "variables")


def check_supported(body: Json) -> None:
    """Raises ApiError 501 for what is not evaluated here, rather than passing over it."""
    spec = body.get("spec") or {}
    for name in _UNKNOWN:
        if spec.get(name):
            raise status.out_of_scope(f"admission policies with {name}")
    for one in (*(spec.get("validations") or ()), *(spec.get("matchConditions") or ())):
        if one.get("messageExpression"):
            raise status.out_of_scope("admission policies with messageExpression")
        try:
            cel.compile_expression(one.get("expression", ""))
        except cel.CelError as error:
            raise status.out_of_scope(f"admission policies with the expression {error}") from None


def check(store: Store, question: Question) -> None:
    """Raises ApiError of the first policy that denies; those that only warn add warnings."""
    if question.call.kind.group == "admissionregistration.k8s.io":
        return
    bindings = store.view(named("validatingadmissionpolicybindings"))
    for binding in sorted(bindings, key=lambda one: str(one["metadata"]["name"])):
        policy = store.get(named("validatingadmissionpolicies"), "", binding["spec"]["policyName"])
        if policy is None or not _concerns(store, question, policy["spec"], binding["spec"]):
            continue
        for validation in policy["spec"].get("validations") or ():
            said, reason = _complaint(validation, policy["spec"], _values(question))
            if said:
                who = f"'{policy['metadata']['name']}' with binding '{binding['metadata']['name']}'"
                _act(question, binding["spec"], f"ValidatingAdmissionPolicy {who}", said, reason=reason)


def _concerns(store: Store, question: Question, policy: Json, binding: Json) -> bool:
    """A match condition that fails counts as met, so that its policy is asked."""
    constraints = (policy.get("matchConstraints") or {}, binding.get("matchResources") or {})
    if not all(matching.fits(store, question, one) for one in constraints):
        return False
    for condition in policy.get("matchConditions") or ():
        try:
            if not cel.compile_expression(condition["expression"])(_values(question)):
                return False
        except cel.CelError:
            return True
    return True


def _values(question: Question) -> Json:
    call = question.call
    request = {
        "operation": question.operation,
        "name": question.name,
        "namespace": call.namespace,
        "dryRun": call.options.dry_run,
        "userInfo": call.user.to_json(),
        "resource": {"group": call.kind.group, "version": "v1", "resource": call.kind.plural},
        "kind": {"group": call.kind.group, "version": "v1", "kind": call.kind.name},
    }
    return {"object": question.body, "oldObject": question.old, "request": request}


def _complaint(validation: Json, policy: Json, values: Json) -> tuple[str, str]:
    """Why the validation fails, empty when it does not, and the reason of the refusal."""
    expression = validation["expression"]
    try:
        passed = cel.compile_expression(expression)(values)
    except (cel.CelError, TypeError, AttributeError) as error:
        if policy.get("failurePolicy", "Fail") == "Ignore":
            return "", ""
        return f"expression '{expression}' resulted in error: {error}", "Invalid"
    said = "" if passed else str(validation.get("message") or f"failed expression: {expression.strip()}")
    return said, validation.get("reason", "Invalid")


def _act(question: Question, binding: Json, who: str, said: str, *, reason: str) -> None:
    call, actions = question.call, binding.get("validationActions") or ()
    if "Warn" in actions:
        call.warnings.append(f"Validation failed for {who}: {said}")
    if "Deny" in actions:
        why = f"{who} denied request: {said}"
        raise status.denied_by_policy(call.kind.plural, question.name, call.kind.group, reason, why)
