"""`python -m local.release TAG`: write the files of a release to build/release/, and its notes to build/notes.md.

The package, the compiled template and what the Portal asks, the bill of materials (CycloneDX), each with the version in
its name, and their digests. Needs `make judges`.
"""

import hashlib
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

from local.package import PACKAGE, ROOT, build
from pullkeeper.version import VERSION

_CYCLONEDX: Final = ROOT / ".venv-judges" / "bin" / "cyclonedx-py"
_TEMPLATES: Final = ("azuredeploy", "createUiDefinition")


class ReleaseError(ValueError):
    """The repository is not ready for this release. The message says what to change."""


def prepare(tag: str, changelog: str, folder: Path) -> str:
    """Write the files to the folder and return the notes. Raises ReleaseError before it writes anything."""
    if tag != f"v{VERSION}":
        raise ReleaseError(f"the tag is {tag}, but pullkeeper/version.py says {VERSION}")
    notes = _read_notes(changelog)
    folder.mkdir(parents=True)
    build(folder / PACKAGE.name)
    for name in _TEMPLATES:
        shutil.copyfile(ROOT / "infra" / f"{name}.json", folder / f"{name}-{VERSION}.json")
    (folder / f"pullkeeper-{VERSION}.cdx.json").write_text(json.dumps(_list_materials(), indent=1), encoding="utf-8")
    digests = [f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.name}\n" for file in sorted(folder.iterdir())]
    (folder / f"SHA256SUMS-{VERSION}").write_text("".join(digests), encoding="utf-8")
    return notes


def _read_notes(changelog: str) -> str:
    heading = rf"## \[{re.escape(VERSION)}\] - \d{{4}}-\d\d-\d\d"
    section = re.search(rf"^{heading}\n(.+?)(?=^## |\Z)", changelog, re.MULTILINE | re.DOTALL)
    if section is None:
        raise ReleaseError(f"CHANGELOG.md has no section '## [{VERSION}] - YYYY-MM-DD'")
    return section[1].strip() + "\n"


def _list_materials() -> dict[str, Any]:
    """Return the bill of materials of the lock: each package with its version and its hashes."""
    done = subprocess.run(
        [_CYCLONEDX, "requirements", "--output-reproducible", "--of", "JSON", ROOT / "requirements.txt"],
        capture_output=True,
        text=True,
        check=True,
    )
    materials: dict[str, Any] = json.loads(done.stdout)
    materials["metadata"]["component"] = {"type": "application", "name": "pullkeeper", "version": VERSION}
    return materials


if __name__ == "__main__":
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    release = ROOT / "build" / "release"
    (release.parent / "notes.md").write_text(prepare(sys.argv[1], text, release), encoding="utf-8")
