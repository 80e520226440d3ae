"""The rules of CONTRIBUTING.md that a machine can check: sizes, imports, pinned packages, no foreign hosts."""

import ast
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from pullkeeper.settings import Settings
from tests.docs.pages import ROOT

CORE = sorted((ROOT / "pullkeeper").glob("**/*.py"))
TRIGGERS = sorted((ROOT / "functions").glob("**/*.py"))
APP = [ROOT / "function_app.py", *TRIGGERS, *CORE]
LONGEST_MODULE, LONGEST_FUNCTION, LONGEST_TRIGGER = 250, 60, 14
TABLES = {"errors.py"}
"""Modules that are a table may be as long as their rows need."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def _name(path: Path) -> str:
    return str(path.relative_to(ROOT))


def _functions(path: Path) -> Iterator[Function]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, Function):
            yield node


def _lines(first: ast.stmt, last: ast.stmt) -> int:
    return (last.end_lineno or last.lineno) - first.lineno + 1


@pytest.mark.parametrize("module", CORE, ids=_name)
def test_the_core_does_not_import_azure_functions(module: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(module.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            imported |= {f"{node.module}.{alias.name}" for alias in node.names}
    assert [name for name in imported if name.startswith("azure.functions")] == []


@pytest.mark.parametrize("module", [module for module in APP if module.name not in TABLES], ids=_name)
def test_a_module_is_short(module: Path) -> None:
    assert len(module.read_text(encoding="utf-8").splitlines()) <= LONGEST_MODULE


@pytest.mark.parametrize("module", APP, ids=_name)
def test_a_function_fits_on_a_screen(module: Path) -> None:
    assert [node.name for node in _functions(module) if _lines(node, node) > LONGEST_FUNCTION] == []


def test_a_trigger_is_short() -> None:
    triggers = [
        node
        for module in TRIGGERS
        for node in _functions(module)
        if any(ast.unparse(decorator).startswith("blueprint.") for decorator in node.decorator_list)
    ]
    assert len(triggers) > 10
    assert [node.name for node in triggers if _lines(node.body[0], node.body[-1]) > LONGEST_TRIGGER] == []


@pytest.mark.parametrize("name", ["requirements.txt", "requirements-dev.txt", "tests/docs/judges/requirements.txt"])
def test_every_package_is_pinned_with_hashes(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8").replace("\\\n", " ")
    packages = [line for line in text.splitlines() if line and not line.lstrip().startswith("#")]
    loose = [
        line for line in packages if not re.match(r"[\w.-]+(\[[\w,-]+\])?==\S+ .*--hash=sha256:[0-9a-f]{64}", line)
    ]
    assert packages
    assert loose == []


def test_no_package_that_depends_on_grpc_is_required() -> None:
    """Both grpcio and protobuf have crashed on the platform with Python 3.13, which isolates an app's packages."""
    names = re.findall(
        r"^([\w.-]+)(?:\[.*\])?==", (ROOT / "requirements.txt").read_text(encoding="utf-8"), re.MULTILINE
    )
    assert "google-auth" in names
    assert [name for name in names if name.startswith(("google-cloud-", "grpcio"))] == []


def find_files() -> list[Path]:
    """Return every file that .gitignore does not exclude."""
    arguments = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, check=True, timeout=30).stdout
    return [ROOT / name for name in listed.split("\0") if (ROOT / name).is_file()]


def test_no_file_names_the_host_of_a_package_registry() -> None:
    """Every build chooses its own, mostly a mirror."""
    names = (
        "pypi org",
        "pythonhosted org",
        "npmjs org",
        "npmjs com",
        "yarnpkg com",
        "proxy golang org",
        "sum golang org",
    )
    hosts = [name.replace(" ", ".").encode() for name in names]
    assert [_name(path) for path in find_files() if any(host in path.read_bytes() for host in hosts)] == []


def test_the_files_of_the_dashboard_are_deployed() -> None:
    """.funcignore has the syntax of .gitignore."""
    names = [
        _name(path) for path in (ROOT / "pullkeeper" / "dashboard").iterdir() if path.suffix in {".html", ".css", ".js"}
    ]
    assert len(names) > 2
    command = ["git", "-c", "core.excludesFile=.funcignore", "check-ignore", "--no-index", "--stdin"]
    names.append("tests/conftest.py")
    ignored = subprocess.run(
        command, cwd=ROOT, input="\n".join(names), capture_output=True, text=True, check=True, timeout=30
    )
    assert ignored.stdout.split() == ["tests/conftest.py"]


def test_the_sample_settings_are_valid() -> None:
    sample = json.loads((ROOT / "local.settings.sample.json").read_text(encoding="utf-8"))
    settings = Settings.read(sample["Values"])
    assert (settings.errors, [*settings.hubs.valid]) == ((), ["deepintshield"])
    known = {str(field.alias) for field in Settings.model_fields.values()}
    assert sample["Values"].keys() <= known | {"FUNCTIONS_WORKER_RUNTIME"}
