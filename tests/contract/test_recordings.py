"""Every recording is what the real server answers, and the stand-in gives the same answers where it plays the case.

PULLKEEPER_RECORD=yes with a real server at hand writes the files:

    PULLKEEPER_RECORD=yes PULLKEEPER_REAL=required make test TESTS=tests/contract/test_recordings.py
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

import pytest

from local.azure.entra import Identity
from local.kubernetes import recordings
from local.kubernetes.apiserver import Etcd
from local.kubernetes.recordings import FOLDER, Recording
from pullkeeper.cluster.refusals import map_refusal
from tests.contract.cluster import Cluster
from tests.contract.conversation import Answer
from tests.contract.script import Stage, load
from tests.contract.situations import situation

PLAYED: Final = load("refusals.yaml")["played"]
CASES: Final = PLAYED | load("refusals.yaml")["real"]
RECORDED_VERSION: Final = 37
"""The minor version of Kubernetes: others word a few refusals otherwise."""
_VARYING: Final = frozenset({"audit-id", "content-length", "date", "server"})


def normalised(answer: Answer, quoted: Mapping[str, str]) -> Recording:
    """With placeholders for what it quotes, and without the headers that differ from call to call."""
    text = answer.text
    for name, value in sorted(quoted.items(), key=lambda item: -len(item[1])):
        # In JSON a quotation mark is escaped.
        shown = json.dumps(value)[1:-1]
        text = re.sub(rf"(?<![\w.]){re.escape(shown)}(?!\w)", f"{{{name}}}", text) if shown else text
    headers = {
        name.title(): value
        for name, value in sorted(answer.headers.items())
        if name not in _VARYING and not name.startswith("x-kubernetes-pf-")
    }
    is_json = headers["Content-Type"] == "application/json"
    return Recording(answer.status, headers, json.loads(text) if is_json else text)


def written(recording: Recording) -> str:
    """A file: each field of the body on a line of its own."""

    def line(value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)

    body = recording.body
    shown = line(body) if isinstance(body, str) else _indented({name: line(item) for name, item in body.items()}, 2)
    return _indented({"status": line(recording.status), "headers": line(recording.headers), "body": shown}, 1) + "\n"


def _indented(fields: dict[str, str], depth: int) -> str:
    inside = ",\n".join(f'{"  " * depth}"{name}": {value}' for name, value in fields.items())
    return "{\n" + inside + "\n" + "  " * (depth - 1) + "}"


def _quotes(case: str, stage: Stage, answers: Sequence[Answer]) -> dict[str, str]:
    """By placeholder: the text that stands for it in the case's answer."""
    quotes: dict[str, str] = stage.fill(CASES[case].get("quotes", {}), answers)
    return quotes


@pytest.mark.real
@pytest.mark.parametrize("case", CASES)
async def test_the_real_server_answers_as_recorded(
    real: Cluster, etcd: Etcd, identity: Identity, minor: int, case: str
) -> None:
    stage = await Stage.open(real, identity)
    async with situation(CASES[case].get("while"), stage, etcd) as quotable:
        answers = await stage.send(CASES[case]["steps"])
    found = normalised(answers[-1], {**_quotes(case, stage, answers), **quotable})

    if os.environ.get("PULLKEEPER_RECORD") == "yes":
        (FOLDER / f"{case}.json").write_text(written(found), encoding="utf-8")
    recorded = recordings.load(case)
    if minor == RECORDED_VERSION:
        assert found == recorded
    else:
        assert found.status == recorded.status
        if found.status >= 400:
            assert type(map_refusal(found.status, found.text.encode(), {})) is type(
                map_refusal(recorded.status, recorded.text.encode(), {})
            )


@pytest.mark.parametrize("case", PLAYED)
async def test_the_stand_in_answers_as_recorded(stand_in: Cluster, identity: Identity, case: str) -> None:
    stage = await Stage.open(stand_in, identity)
    answers = await stage.send(PLAYED[case]["steps"])

    assert normalised(answers[-1], _quotes(case, stage, answers)) == recordings.load(case)


def test_every_recording_has_its_case() -> None:
    assert set(recordings.names()) == set(CASES)


@pytest.mark.parametrize("case", CASES)
def test_every_placeholder_has_an_example(case: str) -> None:
    """`fill` raises KeyError for one without."""
    assert recordings.fill(case).text
