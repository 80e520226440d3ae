"""The pipeline examples as the agents of GitHub and Azure Pipelines run them: the step, its shell, its environment, and
how the agent reads the lines that the step prints.
"""

import asyncio
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import yaml

from tests.docs.pages import ROOT, read

EXAMPLES: Final = ROOT / "docs" / "examples"
SCRIPT: Final = EXAMPLES / "onboard.sh"
FLEET_SCRIPT: Final = EXAMPLES / "fleet.sh"
SCRIPTS: Final = sorted(EXAMPLES.glob("*.sh"))
PIPELINES: Final = sorted(EXAMPLES.glob("*.yml"))


@dataclass(frozen=True, slots=True)
class Run:
    code: int
    out: str
    err: str


async def run_program(arguments: Sequence[str], environment: Mapping[str, str], folder: Path) -> Run:
    """Run a program to its end, with this environment and no other."""
    process = await asyncio.create_subprocess_exec(
        *arguments, cwd=folder, env=environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        out, err = await asyncio.wait_for(process.communicate(), timeout=100)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Run(process.returncode or 0, out.decode(), err.decode())


@dataclass(frozen=True, slots=True)
class Step:
    """The one shell step of a pipeline.

    shell: how the agent starts bash, before the script's path. environment: as in the pipeline, with its expressions.
    mask, error, group, group_end: patterns of the lines that are commands to the agent.
    """

    text: str
    shell: tuple[str, ...]
    environment: Mapping[str, str]
    mask: str
    error: str
    group: str
    group_end: str

    @classmethod
    def parse(cls, pipeline: Path) -> "Step":
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
                error=r"::error file=(?P<file>.+?)::(?P<text>.+)",
                group=r"::group::(.+)",
                group_end="::endgroup::",
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
            error=r"##vso\[task\.logissue type=error\](?P<file>\S+) (?P<text>.+)",
            group=r"##\[group\](.+)",
            group_end="##[endgroup]",
        )

    def fill_environment(self, values: Mapping[str, str]) -> dict[str, str]:
        """Return the environment with the values that are set on the repository or the pipeline."""

        def fill(value: str) -> str:
            return re.sub(r"\$\{\{ vars\.(\w+) \}\}|\$\((\w+)\)", lambda one: values[one[1] or one[2]], value)

        return {name: fill(value) for name, value in self.environment.items()}


@dataclass(frozen=True, slots=True)
class AgentLog:
    """A step's output as the agent reads it. errors: file and text. groups: titles in order; each group ends before the
    next. shown: the lines that are no commands.
    """

    masks: list[str] = field(default_factory=list)
    errors: list[tuple[str, str]] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)

    @classmethod
    def parse(cls, step: Step, output: str) -> "AgentLog":
        log, is_open = cls(), False
        for line in output.splitlines():
            if mask := re.fullmatch(step.mask, line):
                log.masks.append(mask[1])
            elif error := re.fullmatch(step.error, line):
                log.errors.append((error["file"], error["text"]))
            elif group := re.fullmatch(step.group, line):
                assert not is_open, line
                log.groups.append(group[1])
                is_open = True
            elif line == step.group_end:
                assert is_open, line
                is_open = False
            else:
                log.shown.append(line)
        assert not is_open
        return log


def role_actions(pipeline: Path) -> frozenset[str]:
    """Return the actions of the role that the pipeline's comment asks for."""
    comment = "".join(line for line in read(pipeline).splitlines(keepends=True) if line.startswith("#"))
    return frozenset(re.findall(r"Microsoft\.[\w/]+", comment))


def find_scripts(node: Any) -> list[str]:
    """Return all shell steps in a document."""
    if isinstance(node, dict):
        own = [node[key] for key in ("run", "inlineScript", "bash") if key in node]
        return own + [text for value in node.values() for text in find_scripts(value)]
    return [text for value in node for text in find_scripts(value)] if isinstance(node, list) else []
