"""`python -m local.package`: build the zip that is deployed, `build/pullkeeper-VERSION.zip`.

It holds the app, less what `.funcignore` names, and under `.python_packages` the packages that requirements.txt pins,
for Linux x64 and the platform's Python: the platform runs it as it is (`--build-remote false`). The same commit gives
the same bytes: entries are sorted, have one time and one mode, and hold nothing of this machine.
"""

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from pathspec import GitIgnoreSpec
from uv import find_uv_bin

from pullkeeper.version import VERSION

ROOT: Final = Path(__file__).parents[1]
PACKAGE: Final = ROOT / "build" / f"pullkeeper-{VERSION}.zip"
PYTHON: Final = "3.13"
"""As in infra/app.bicep."""
SITE_PACKAGES: Final = Path(".python_packages", "lib", "site-packages")
"""Where the platform's worker looks for an app's packages."""
_PLATFORM: Final = "x86_64-manylinux_2_28"
"""The platform's images are Debian 12 (glibc 2.36); no wheel may need a newer one than RHEL 8 has."""
_UNPACKED_ONLY: Final = GitIgnoreSpec.from_lines(["/bin/", "/.lock", "RECORD", "__pycache__/"])
"""What an installation adds for the machine that it is made on. Programs, and the hashes of RECORD, hold its paths."""
_TIME: Final = (1980, 1, 1, 0, 0, 0)
"""The first that a zip can hold."""
_READABLE: Final = 0o100644 << 16


def build(package: Path) -> None:
    """Write the zip. Raises subprocess.CalledProcessError if a package has no wheel for the platform."""
    with tempfile.TemporaryDirectory(prefix="pullkeeper-package-") as folder:
        site_packages = Path(folder)
        _install(site_packages)
        entries = {path.as_posix(): ROOT / path for path in find_files(ROOT, read_rules(ROOT))}
        for path in find_files(site_packages, _UNPACKED_ONLY):
            entries[(SITE_PACKAGES / path).as_posix()] = site_packages / path
        package.parent.mkdir(exist_ok=True)
        _write(package, entries)


def read_rules(app: Path) -> GitIgnoreSpec:
    """Return what is not deployed: `.funcignore`, as for Core Tools and azd. Without that file everything is."""
    rules = app / ".funcignore"
    return GitIgnoreSpec.from_lines(rules.read_text(encoding="utf-8").splitlines() if rules.exists() else ())


def find_files(folder: Path, ignored: GitIgnoreSpec) -> Iterator[Path]:
    """Yield the files in the folder, relative to it, that the rules do not name."""
    for here, folders, names in os.walk(folder):
        relative = Path(here).relative_to(folder)
        folders[:] = [name for name in folders if not ignored.match_file(f"{relative / name}/")]
        yield from (relative / name for name in names if not ignored.match_file(relative / name))


def _install(site_packages: Path) -> None:
    """Unpack the wheels. None is built here, and each must have the hash that the lock pins."""
    arguments = ["--target", str(site_packages), "--python-version", PYTHON, "--python-platform", _PLATFORM]
    checks = ["--only-binary", ":all:", "--require-hashes", "--no-deps"]
    uv = [find_uv_bin(), "pip", "install", "--quiet", "--no-python-downloads", "--python", sys.executable]
    subprocess.run([*uv, *arguments, *checks, "--requirements", str(ROOT / "requirements.txt")], check=True)


def _write(package: Path, entries: Mapping[str, Path]) -> None:
    with zipfile.ZipFile(package, "w") as archive:
        for name in sorted(entries):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system, entry.external_attr = 3, _READABLE  # Unix, on every machine
            archive.writestr(entry, entries[name].read_bytes(), zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    build(PACKAGE)
    print(PACKAGE.relative_to(ROOT))
