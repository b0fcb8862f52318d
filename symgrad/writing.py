"""Writing a file whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from symgrad.errors import FileError


def write_whole(path: str | os.PathLike[str], content: str | bytes) -> None:
    """Write a file of its own first, then rename: a reader finds the old file or the whole new one.

    Symbolic links are followed. Raises FileError where nothing can be written, or no regular file stands.
    """
    target = Path(os.path.realpath(path))
    if target.exists() and not target.is_file():
        raise FileError(f"{os.fspath(path)}: exists and is no regular file")
    try:
        _replace(target, content.encode() if isinstance(content, str) else content)
    except OSError as error:
        raise FileError(f"{os.fspath(path)}: cannot be written: {error.strerror or error}") from None


def _replace(target: Path, content: bytes) -> None:
    handle, temporary = tempfile.mkstemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.chmod(temporary, target.stat().st_mode & 0o777 if target.exists() else 0o666 & ~_umask())
        os.replace(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def _umask() -> int:
    current = os.umask(0o077)
    os.umask(current)
    return current
