"""Fresh virtual environments in which packages are installed with pip, without a network."""

import os
import shutil
import site
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import primordium

_PIP = ("--no-index", "--no-build-isolation", "--no-deps", "--quiet", "--disable-pip-version-check")


@dataclass(frozen=True)
class Environment:
    """A virtual environment that sees the primordium under test and what that needs.

    Attributes:
        root: its folder.
    """

    root: Path

    @classmethod
    def create(cls, root: Path) -> "Environment":
        """A new one; packages of the environment that runs the tests are visible in it."""
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(root)], check=True)
        scheme = {"base": str(root), "platbase": str(root)}
        packages = Path(sysconfig.get_path("purelib", "venv", scheme))
        # --system-site-packages would show those of the base Python, not of a parent that is virtual too.
        # addsitedir runs what makes editable installations visible as well.
        parents = [path for path in (*site.getsitepackages(), site.getusersitepackages()) if path in sys.path]
        lines = [str(Path(primordium.__file__).parents[1])]
        lines += [f"import site; site.addsitedir({path!r})" for path in parents]
        (packages / "parent.pth").write_text("\n".join([*lines, ""]))
        return cls(root)

    @property
    def python(self) -> Path:
        """Its interpreter."""
        return Path(sysconfig.get_path("scripts", "venv", {"base": str(self.root)})) / "python"

    def install(self, package: Path) -> None:
        """Build a package and install it; the source is copied first, since a build leaves files in it."""
        source = shutil.copytree(package, self.root / "sources" / package.name)
        pip = [sys.executable, "-m", "pip", "--python", str(self.python), "install", *_PIP, str(source)]
        done = subprocess.run(pip, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr

    def run(self, *arguments: object, cwd: Path) -> "subprocess.CompletedProcess[str]":
        """Its interpreter with these arguments."""
        command = [str(self.python), *map(str, arguments)]
        environment = {**os.environ, "COLUMNS": "200"}
        return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=240)

    def primordium(self, *arguments: object, cwd: Path) -> str:
        """What a command of primordium prints that must succeed."""
        done = self.run("-c", "from primordium.cli import main; main()", *arguments, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout
