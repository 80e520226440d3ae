"""The costs in docs/install.md are those of the model."""

from tests.docs.pages import ROOT, read
from tests.infra import cost, rules
from tests.infra.compiler import PARAMETERS, read_resources


def test_the_page_has_the_table_of_the_model() -> None:
    assert "\n".join(cost.table()) in read(ROOT / "docs" / "install.md")


def test_the_model_counts_the_rules_that_are_deployed() -> None:
    found = [
        *rules.of_type(read_resources(PARAMETERS / "minimal.bicepparam"), "Microsoft.Insights/scheduledQueryRules")
    ]
    (line,) = (line for line in cost.LINES if line.name == "alert rules")
    assert line.amount(10) == len(found)
    assert {rule["properties"]["evaluationFrequency"] for rule in found} == {"PT5M"}
