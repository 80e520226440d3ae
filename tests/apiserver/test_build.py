"""Where the real API server comes from: named, cached or built, in this order."""

import shutil
import subprocess
from pathlib import Path

import pytest

BUILD = Path(__file__).with_name("build")

# Writes what `go build ... -o FILE PACKAGE` would, and notes that it was called.
GO = """#!/bin/sh
echo called >>"$HOME/calls"
while [ "$1" != -o ]; do shift; done
printf '#!/bin/sh\\n' >"$2"
chmod +x "$2"
"""

# Breaks off after etcd.
BROKEN_GO = GO + 'case "$3" in *kube-apiserver) exit 1 ;; esac\n'


def executable(path: Path, content: str = "#!/bin/sh\n") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    path.chmod(0o755)


def build(home: Path, *arguments: str, go: str | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    """Under a home folder and a PATH of its own, so that `go` is the only compiler if there is one at all."""
    for tool in ("chmod", "date", "dirname", "mkdir", "mktemp", "mv", "rm", "sed", "sh"):
        (home / "bin").mkdir(exist_ok=True)
        (home / "bin" / tool).unlink(missing_ok=True)
        (home / "bin" / tool).symlink_to(str(shutil.which(tool)))
    if go is not None:
        executable(home / "bin" / "go", go)
    return subprocess.run(
        [BUILD, *arguments],
        env={"HOME": str(home), "PATH": f"{home}/bin", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def kept(home: Path) -> list[str]:
    return sorted(path.name for path in home.glob(".cache/pullkeeper/apiserver/*"))


def test_nothing_at_hand(tmp_path: Path) -> None:
    done = build(tmp_path, "--which")

    assert done.returncode == 1
    assert done.stdout == ""


def test_named_by_a_variable(tmp_path: Path) -> None:
    for name in ("kube-apiserver", "etcd"):
        executable(tmp_path / "assets" / name)
    done = build(tmp_path, "--which", KUBEBUILDER_ASSETS=str(tmp_path / "assets"))

    assert done.stdout == f"{tmp_path}/assets\n"


def test_a_named_folder_that_lacks_something(tmp_path: Path) -> None:
    executable(tmp_path / "assets" / "etcd")
    done = build(tmp_path, KUBEBUILDER_ASSETS=str(tmp_path / "assets"), go=GO)

    assert done.returncode == 1
    assert "KUBEBUILDER_ASSETS" in done.stderr
    assert kept(tmp_path) == []


def test_built_once_and_kept_by_version(tmp_path: Path) -> None:
    first = build(tmp_path, go=GO)
    second = build(tmp_path, go=GO)
    looked = build(tmp_path, "--which")

    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout == looked.stdout
    assert kept(tmp_path) == ["1.37.2+etcd-3.7.3"]
    assert (tmp_path / "calls").read_text().count("called") == 2


def test_another_version_beside_it(tmp_path: Path) -> None:
    build(tmp_path, go=GO)
    build(tmp_path, "1.36", go=GO)

    assert kept(tmp_path) == ["1.36.3+etcd-3.7.3", "1.37.2+etcd-3.7.3"]


def test_a_version_that_is_not_pinned(tmp_path: Path) -> None:
    done = build(tmp_path, "1.12", go=GO)

    assert done.returncode == 2
    assert "1.12" in done.stderr


def test_a_build_that_breaks_leaves_nothing_behind(tmp_path: Path) -> None:
    done = build(tmp_path, go=BROKEN_GO)

    assert done.returncode != 0
    assert done.stdout == ""
    assert kept(tmp_path) == []


@pytest.mark.parametrize("minor", ["1.36", "1.37"])
def test_without_go_the_message_names_what_helps(tmp_path: Path, minor: str) -> None:
    done = build(tmp_path, minor)

    assert done.returncode == 1
    assert "needs Go" in done.stderr
    assert "KUBEBUILDER_ASSETS" in done.stderr
