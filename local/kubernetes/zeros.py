"""What Go's encoder writes even when nothing is in it: structs that are no pointers, lists without `omitempty`.

That decides more than looks: ownership of a new object is reckoned from its zero value, so nobody ever owns a bare
`f:spec`, and a role without rules says `"rules": null`.
"""

from typing import Any

from local.kubernetes.schema import ANYTHING, Type

Json = dict[str, Any]

_WRITTEN: dict[str, tuple[str, ...]] = {
    "Namespace": ("metadata", "spec", "status"),
    "ResourceQuota": ("metadata", "spec", "status"),
    "Pod": ("metadata", "spec", "status"),
    "Service": ("metadata", "spec", "status"),
    "ServiceStatus": ("loadBalancer",),
    "Deployment": ("metadata", "spec", "status"),
    "DeploymentSpec": ("selector", "template", "strategy"),
    "CronJob": ("metadata", "spec", "status"),
    "CronJobSpec": ("schedule", "jobTemplate"),
    "JobTemplateSpec": ("metadata", "spec"),
    "Job": ("metadata", "spec", "status"),
    "JobSpec": ("template",),
    "PodTemplateSpec": ("metadata", "spec"),
    "PodSpec": ("containers",),
    "Container": ("name", "resources"),
    "Role": ("metadata", "rules"),
    "ClusterRole": ("metadata", "rules"),
    "RoleBinding": ("metadata", "roleRef"),
    "ClusterRoleBinding": ("metadata", "roleRef"),
    "RoleRef": ("kind", "name"),
    "ValidatingAdmissionPolicy": ("metadata", "spec", "status"),
    "ValidatingAdmissionPolicyBinding": ("metadata", "spec"),
    "ValidatingWebhook": ("name", "clientConfig"),
    "SelfSubjectAccessReview": ("metadata", "spec", "status"),
    "SubjectAccessReviewStatus": ("allowed",),
}
_SCALARS: dict[str, Any] = {"string": "", "integer": 0, "number": 0, "boolean": False}
# The one pointer among these, which is written nevertheless.
_POINTERS = {("DeploymentSpec", "selector")}


def always_written(kind: Type) -> tuple[str, ...]:
    return _WRITTEN.get(kind.name, ())


def of(kind: Type) -> Any:
    """The zero value as it is encoded."""
    if kind.shape == "struct":
        return {
            name: None if (kind.name, name) in _POINTERS else of(kind.fields.get(name, ANYTHING))
            for name in always_written(kind)
        }
    return _SCALARS.get(kind.scalar) if kind.shape == "scalar" else None
