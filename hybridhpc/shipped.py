"""What of a workdir is shipped: all but what never is, and what its `.hpcignore` names as a .gitignore would."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path

NEVER = (".git", "__pycache__", ".venv", ".mypy_cache", ".pytest_cache", ".ruff_cache", "*.pyc")
IGNORE_FILE = ".hpcignore"


def shipped(root: Path) -> Iterator[Path]:
    """Yield every file and directory below a directory that is shipped, in a fixed order. Raises OSError."""
    left_out = _left_out(root)

    def walk(folder: Path, below: str) -> Iterator[Path]:
        for path in sorted(folder.iterdir()):
            is_folder = path.is_dir() and not path.is_symlink()
            name = f"{below}{path.name}"
            if any(fnmatch(path.name, pattern) for pattern in NEVER) or left_out(f"{name}/" if is_folder else name):
                continue
            yield path
            if is_folder:
                yield from walk(path, f"{name}/")

    return walk(root, "")


def _left_out(root: Path) -> Callable[[str], bool]:
    try:
        lines = (root / IGNORE_FILE).read_text("utf-8", "replace").splitlines()
    except FileNotFoundError:
        return lambda name: False
    import pathspec  # only for who has such a file

    return pathspec.GitIgnoreSpec.from_lines(lines).match_file
