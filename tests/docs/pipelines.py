"""The examples for pipelines as the agents of GitHub and Azure Pipelines read them: the step, its shell, its
environment, and what the agent makes of the lines that the step prints.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from tests.docs.pages import ROOT, read

EXAMPLES: Final = ROOT / "docs" / "examples"
SCRIPT: Final = EXAMPLES / "onboard.sh"
PIPELINES: Final = sorted(EXAMPLES.glob("*.yml"))


@dataclass(frozen=True, slots=True)
class Run:
    code: int
    out: str
    err: str


async def run_to_the_end(arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Run:
    """With nothing in its environment but what is given."""
    started = await asyncio.create_subprocess_exec(
        *arguments, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(started.communicate(), timeout=100)
    finally:
        if started.returncode is None:
            started.kill()
            await started.wait()
    return Run(started.returncode or 0, out.decode(), err.decode())


@dataclass(frozen=True, slots=True)
class Step:
    """The one shell step of a pipeline. shell: how its agent starts bash, before the script's path. environment: what
    the pipeline names, in the pipeline's own words. mask, error: how it speaks to its agent, as patterns.
    """

    text: str
    shell: tuple[str, ...]
    environment: Mapping[str, str]
    mask: str
    error: str
    group: tuple[str, str]

    @classmethod
    def of(cls, pipeline: Path) -> "Step":
        document = yaml.safe_load(read(pipeline))
        (job,) = document["jobs"].values() if isinstance(document["jobs"], dict) else document["jobs"]
        if "runs-on" in job:
            (step,) = (one for one in job["steps"] if "run" in one)
            assert "shell" not in step
            return cls(
                step["run"],
                # docs.github.com/actions, workflow syntax: bash -e where a step names no shell.
                ("bash", "-e"),
                {**document.get("env", {}), **job.get("env", {}), **step.get("env", {})},
                mask=r"::add-mask::(.+)",
                error=r"::error file=(?P<file>.+?)::(?P<what>.+)",
                group=(r"::group::(.+)", "::endgroup::"),
            )
        (step,) = (one for one in job["steps"] if "inlineScript" in one.get("inputs", {}))
        assert (step["task"], step["inputs"]["scriptType"]) == ("AzureCLI@2", "bash")
        return cls(
            step["inputs"]["inlineScript"],
            # github.com/microsoft/azure-pipelines-tasks, Tasks/AzureCLIV2/src/ScriptType.ts: nothing but the path.
            ("bash",),
            # A variable with a name in capitals is in the environment under that name.
            {one["name"]: one["value"] for one in document["variables"]},
            mask=r"##vso\[task\.setvariable variable=\w+;issecret=true\](.+)",
            error=r"##vso\[task\.logissue type=error\](?P<file>\S+) (?P<what>.+)",
            group=(r"##\[group\](.+)", "##[endgroup]"),
        )

    def filled(self, values: Mapping[str, str]) -> dict[str, str]:
        """The environment with what is set on the repository or the pipeline."""

        def fill(value: str) -> str:
            return re.sub(r"\$\{\{ vars\.(\w+) \}\}|\$\((\w+)\)", lambda one: values[one[1] or one[2]], value)

        return {name: fill(value) for name, value in self.environment.items()}


@dataclass(frozen=True, slots=True)
class Heard:
    """What an agent makes of a step's output. groups: titles in order, each closed before the next. shown: what is left
    for people to read, unmasked.
    """

    masks: list[str]
    errors: list[tuple[str, str]]
    groups: list[str]
    shown: list[str]

    @classmethod
    def of(cls, step: Step, output: str) -> "Heard":
        heard, open_group = cls([], [], [], []), False
        title, end = step.group
        for line in output.splitlines():
            if mask := re.fullmatch(step.mask, line):
                heard.masks.append(mask[1])
            elif error := re.fullmatch(step.error, line):
                heard.errors.append((error["file"], error["what"]))
            elif group := re.fullmatch(title, line):
                assert not open_group, line
                heard.groups.append(group[1])
                open_group = True
            elif line == end:
                assert open_group, line
                open_group = False
            else:
                heard.shown.append(line)
        assert not open_group
        return heard


def actions(pipeline: Path) -> frozenset[str]:
    """Those of the role that the pipeline's comment asks for."""
    comment = "".join(line for line in read(pipeline).splitlines(keepends=True) if line.startswith("#"))
    return frozenset(re.findall(r"Microsoft\.[\w/]+", comment))


def scripts(node: Any) -> list[str]:
    """All shell steps in a document."""
    if isinstance(node, dict):
        own = [node[key] for key in ("run", "inlineScript") if key in node]
        return own + [text for value in node.values() for text in scripts(value)]
    return [text for value in node for text in scripts(value)] if isinstance(node, list) else []
