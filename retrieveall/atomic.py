"""What a local disk does all at once or not at all: the base of `retrieveall.storage`."""

from __future__ import annotations

import errno
import os
from pathlib import Path

_NO_LINKS = (errno.EPERM, errno.ENOTSUP, errno.EMLINK, errno.EXDEV, errno.ENOSYS)


def write_through(path: Path, data: bytes) -> None:
    """Writes a new file and waits until the disk has it."""
    with open(path, "xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def link_exclusively(temporary: str, target: str, data: bytes) -> None:
    """Gives the complete temporary file its final name; FileExistsError when the name is taken."""
    try:
        os.link(temporary, target)
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        with open(target, "xb") as file:  # a disk without hard links: exclusive, but not all at once
            file.write(data)


def rename_unless_taken(folder: Path, target: Path) -> bool:
    """Renames a folder; False when another process put a non-empty one there first."""
    try:
        os.rename(folder, target)
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        return False
    return True
