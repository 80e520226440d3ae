"""docs/onboarding.md agrees with the code: fields with their defaults, phases, rights."""

import json
import re
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from local.azure.arm import ONBOARDER
from pullkeeper.model import SelectorTarget, Target
from pullkeeper.onboarding.documents import Handover, Onboarding, Operation, Result, Step
from pullkeeper.onboarding.phases import OFFBOARD, ONBOARD
from pullkeeper.onboarding.workload import Workload
from tests.docs.pages import ROOT, blocks, read, rows

PAGE = ROOT / "docs" / "onboarding.md"
DESCRIBED_IN_WORDS = {"targets"}
"""Fields whose default is too long for a row."""


def write_default(field: FieldInfo) -> str:
    """Return the default as the tables have it: `none` if it is empty."""
    if field.is_required():
        return ""
    default: Any = field.get_default(call_default_factory=True)
    if default in (None, ()):
        return "none"
    return f"`{json.dumps(default).strip(chr(34))}`"


@pytest.mark.parametrize(
    ("heading", "model"),
    [
        ("field", Onboarding),
        ("field of a target", Target),
        ("field of a target by label", SelectorTarget),
        ("field of the workload", Workload),
    ],
    ids=["request", "target", "target by label", "workload"],
)
def test_every_field_of_a_request_has_a_row_with_its_default(heading: str, model: type[BaseModel]) -> None:
    fields = {
        str(field.alias): write_default(field)
        for name, field in model.model_fields.items()
        if name not in DESCRIBED_IN_WORDS
    }
    documented = {
        row[0].strip("`"): row[1] for row in rows(PAGE, heading) if row[0].strip("`") not in DESCRIBED_IN_WORDS
    }
    assert fields == documented


@pytest.mark.parametrize(
    ("heading", "model"),
    [("field of an operation", Operation), ("field of a step", Step), ("field of the result", Result)],
    ids=["operation", "step", "result"],
)
def test_every_field_of_a_response_has_a_row(heading: str, model: type[BaseModel]) -> None:
    assert [str(field.alias) for field in model.model_fields.values()] == [
        row[0].strip("`") for row in rows(PAGE, heading)
    ]


def test_every_field_of_the_handover_is_described() -> None:
    (cell,) = (row[1] for row in rows(PAGE, "field of the result") if row[0] == "`handover`")
    assert {str(field.alias) for field in Handover.model_fields.values()} == set(re.findall(r"`(\w+)`", cell))


def test_all_values_of_a_status_are_described() -> None:
    for heading, model in (("field of an operation", Operation), ("field of a step", Step)):
        (cell,) = (row[1] for row in rows(PAGE, heading) if row[0] == "`status`")
        allowed = model.model_json_schema()["properties"]["status"]["enum"]
        assert sorted(allowed) == sorted(re.findall(r"`(\w+)`", cell))


def test_the_documented_role_is_the_one_of_the_tests() -> None:
    """All tests of onboarding pass with it, on a stand-in that checks every action."""
    (role,) = (json.loads(block.text) for block in blocks("json") if block.page == PAGE and "Actions" in block.text)
    assert {action.lower() for action in ONBOARDER} == {action.lower() for action in role["Actions"]}


def test_the_guides_eight_steps_are_compared_with_the_phases() -> None:
    table = rows(PAGE, "guide")
    assert [row[0] for row in table if row[0].startswith("Step")] == [f"Step {number}" for number in range(1, 9)]
    named = {name for row in table for name in re.findall(r"`([^`]+)`", row[2])}
    assert named == {phase.NAME for phase in ONBOARD} == {phase.NAME for phase in OFFBOARD}


def test_the_bodies_of_examples_are_valid() -> None:
    bodies = [block.text for block in blocks("json") if block.page == PAGE and '"hub"' in block.text]
    bodies += re.findall(r"--data '(\{.*?\})'", read(ROOT / "README.md"), re.DOTALL)
    assert len(bodies) > 1
    assert {Onboarding.parse(body).hub for body in bodies} == {"deepintshield"}
