"""Selectors of namespaces by label: what Kubernetes calls a LabelSelector, with its validation and its meaning.

Rules and syntax: k8s.io/apimachinery, pkg/apis/meta/v1/validation and pkg/labels.
"""

from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from pullkeeper.document import Document

_NAME = r"([A-Za-z0-9][A-Za-z0-9_.-]{0,61})?[A-Za-z0-9]"
_DNS_LABEL = r"[a-z0-9]([a-z0-9-]*[a-z0-9])?"
_LONGEST_PREFIX = 253


def _has_short_prefix(key: str) -> str:
    if len(key.rpartition("/")[0]) > _LONGEST_PREFIX:
        raise ValueError(f"the prefix may have {_LONGEST_PREFIX} characters at most")
    return key


LabelKey = Annotated[
    str,
    StringConstraints(pattern=rf"^({_DNS_LABEL}(\.{_DNS_LABEL})*/)?{_NAME}$", max_length=_LONGEST_PREFIX + 64),
    AfterValidator(_has_short_prefix),
]
LabelValue = Annotated[str, StringConstraints(pattern=rf"^({_NAME})?$")]


class LabelExpression(Document):
    """An item of `matchExpressions`. In and NotIn need values, the others have none."""

    key: LabelKey
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: Annotated[tuple[LabelValue, ...], Field(max_length=50)] = ()

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if bool(self.values) != (self.operator in {"In", "NotIn"}):
            raise ValueError("operators In and NotIn need values; Exists and DoesNotExist have none")
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        """As in Kubernetes, NotIn matches where the label is missing."""
        match self.operator:
            case "In":
                return labels.get(self.key) in self.values
            case "NotIn":
                return labels.get(self.key) not in self.values
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels

    def __str__(self) -> str:
        # One value without parentheses: the API server refuses `in ()`, which an empty one would be.
        match self.operator, sorted({*self.values}):
            case "In", [value]:
                return f"{self.key}={value}"
            case "NotIn", [value]:
                return f"{self.key}!={value}"
            case "Exists", _:
                return self.key
            case "DoesNotExist", _:
                return f"!{self.key}"
            case operator, values:
                return f"{self.key} {operator.lower()} ({','.join(values)})"


class NamespaceSelector(Document):
    """Namespaces with these labels. All conditions must hold. Without any it would mean every namespace."""

    match_labels: Annotated[dict[LabelKey, LabelValue], Field(max_length=20)] = Field(default_factory=dict)
    match_expressions: Annotated[tuple[LabelExpression, ...], Field(max_length=20)] = ()

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not (self.match_labels or self.match_expressions):
            raise ValueError("an empty selector would match every namespace: give matchLabels or matchExpressions")
        return self

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(expression.matches(labels) for expression in self.expressions)

    def __str__(self) -> str:
        """Return the value of `labelSelector`, for the API server and kubectl."""
        return ",".join(map(str, self.expressions))

    @property
    def expressions(self) -> tuple[LabelExpression, ...]:
        """All conditions in one form, as Kubernetes has them inside."""
        labels = self.match_labels.items()
        return (
            *(LabelExpression(key=key, operator="In", values=(value,)) for key, value in labels),
            *self.match_expressions,
        )
