"""The command line is installed with the extra `cli`, and the deployed app has nothing of it."""

import os
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path
from typing import Final

import pytest
from uv import find_uv_bin

from local import package
from pullkeeper.version import VERSION
from tests.docs.pages import ROOT

_UV: Final = find_uv_bin()
_PROJECT: Final = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def _run(*arguments: str | Path, folder: Path = ROOT, **environment: str) -> str:
    done = subprocess.run(
        [str(one) for one in arguments],
        cwd=folder,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=110,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built by the backend of these requirements, without a download."""
    folder = tmp_path_factory.mktemp("wheel")
    build = f"from hatchling.build import build_wheel; print(build_wheel({str(folder)!r}))"
    return folder / _run(sys.executable, "-c", build).splitlines()[-1]


def test_the_wheel_has_the_command_line(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert "pullkeeper/cli/main.py" in names
    assert {name.partition("/")[0] for name in names} == {"pullkeeper", f"pullkeeper-{VERSION}.dist-info"}


def test_the_program_runs_where_the_extra_is_installed(wheel: Path, tmp_path: Path) -> None:
    """In an environment of its own, with the versions that the tests have."""
    _run(_UV, "venv", "--quiet", "--python", sys.executable, tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    pinned = ("--constraint", "requirements-dev.txt", "--no-verify-hashes")
    _run(_UV, "pip", "install", "--quiet", "--python", python, *pinned, f"pullkeeper[cli] @ {wheel.as_uri()}")
    program = tmp_path / "venv" / "bin" / "pullkeeper"
    assert "PULLKEEPER_URL" in _run(program, "--help", folder=tmp_path)
    assert _run(program, "--version", folder=tmp_path) == f"pullkeeper {VERSION}\n"
    for shell in ("zsh", "fish"):
        assert "_PULLKEEPER_COMPLETE" in _run(program, "completion", shell, folder=tmp_path)
    script = _run(program, "completion", "bash", folder=tmp_path)
    complete = "COMP_WORDS=(pullkeeper get ''); COMP_CWORD=2; _pullkeeper_completion pullkeeper; echo ${COMPREPLY[@]}"
    path = f"{program.parent}:{os.environ['PATH']}"
    assert _run("bash", "-c", f"{script}\n{complete}", folder=tmp_path, PATH=path).split() == [
        "clusters",
        "hubs",
        "operations",
    ]


def test_its_packages_are_not_those_of_the_app() -> None:
    text = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    deployed = set(re.findall(r"^([a-z0-9-]+)(?:\[.*\])?==", text, re.MULTILINE))
    own = {re.split("[<>=]", one)[0] for one in _PROJECT["project"]["optional-dependencies"]["cli"]}
    assert own
    assert {"requests", "pyyaml"} <= deployed, "the command line uses these too"
    assert own & deployed == set()


def test_it_is_not_deployed() -> None:
    deployed = {path.parts[:2] for path in package.find_files(ROOT, package.read_rules(ROOT))}
    assert ("pullkeeper", "services.py") in deployed
    assert ("pullkeeper", "cli") not in deployed
