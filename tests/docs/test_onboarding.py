"""docs/onboarding.md says what the code says: fields with their defaults, phases, rights."""

import json
import re
from typing import Any

import pytest
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from local.azure.arm import ONBOARDER
from pullkeeper.model import Target
from pullkeeper.onboarding.documents import Handover, Onboarding, Operation, Result, Step, Workload
from pullkeeper.onboarding.phases import OFFBOARD, ONBOARD
from tests.docs.pages import ROOT, blocks, read, rows

PAGE = ROOT / "docs" / "onboarding.md"
WITHOUT_A_ROW = {"targets"}
"""Its default is a target of its own, which is told in words."""


def _default(field: FieldInfo) -> str:
    """As the tables write it: `none` for what is empty."""
    if field.is_required():
        return ""
    default: Any = field.get_default(call_default_factory=True)
    if default in (None, ()):
        return "none"
    return f"`{json.dumps(default).strip(chr(34))}`"


@pytest.mark.parametrize(
    ("heading", "model"),
    [("field", Onboarding), ("field of a target", Target), ("field of the workload", Workload)],
    ids=["request", "target", "workload"],
)
def test_every_field_to_send_has_a_row_with_its_default(heading: str, model: type[BaseModel]) -> None:
    fields = {
        str(field.alias): _default(field) for name, field in model.model_fields.items() if name not in WITHOUT_A_ROW
    }
    documented = {row[0].strip("`"): row[1] for row in rows(PAGE, heading) if row[0].strip("`") not in WITHOUT_A_ROW}
    assert fields == documented


@pytest.mark.parametrize(
    ("heading", "model"),
    [("field of an operation", Operation), ("field of a step", Step), ("field of the result", Result)],
    ids=["operation", "step", "result"],
)
def test_every_field_of_the_answer_has_a_row(heading: str, model: type[BaseModel]) -> None:
    assert [str(field.alias) for field in model.model_fields.values()] == [
        row[0].strip("`") for row in rows(PAGE, heading)
    ]


def test_every_field_of_the_handover_is_told() -> None:
    (told,) = (row[1] for row in rows(PAGE, "field of the result") if row[0] == "`handover`")
    assert {str(field.alias) for field in Handover.model_fields.values()} == set(re.findall(r"`(\w+)`", told))


def test_the_values_that_statuses_have_are_all_told() -> None:
    for heading, model in (("field of an operation", Operation), ("field of a step", Step)):
        (told,) = (row[1] for row in rows(PAGE, heading) if row[0] == "`status`")
        allowed = model.model_json_schema()["properties"]["status"]["enum"]
        assert sorted(allowed) == sorted(re.findall(r"`(\w+)`", told))


def test_the_role_is_what_onboarding_does_in_azure() -> None:
    """What Azure's stand-in asks for, and the tests of onboarding get by with."""
    (role,) = (json.loads(block.text) for block in blocks("json") if block.page == PAGE and "Actions" in block.text)
    assert {action.lower() for action in ONBOARDER} == {action.lower() for action in role["Actions"]}


def test_the_guides_eight_steps_are_put_beside_the_phases() -> None:
    table = rows(PAGE, "guide")
    assert [row[0] for row in table if row[0].startswith("Step")] == [f"Step {number}" for number in range(1, 9)]
    named = {name for row in table for name in re.findall(r"`([^`]+)`", row[2])}
    assert named == {phase.NAME for phase in ONBOARD} == {phase.NAME for phase in OFFBOARD}


def test_what_is_sent_in_examples_can_be_sent() -> None:
    sent = [block.text for page in (PAGE,) for block in blocks("json") if block.page == page and '"hub"' in block.text]
    sent += re.findall(r"--data '(\{.*?\})'", read(ROOT / "README.md"), re.DOTALL)
    assert len(sent) > 1
    assert [Onboarding.parse(text).hub for text in sent] == ["deepintshield"] * len(sent)
