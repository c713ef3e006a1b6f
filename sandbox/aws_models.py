"""botocore reads its descriptions of AWS's services anew for each session (EC2's has 10 MB); `keep` has each file read once."""

from __future__ import annotations

from functools import cache
from typing import Any

from botocore.loaders import JSONFileLoader, Loader


class KeptFiles(JSONFileLoader):  # type: ignore[misc]
    """botocore's reader of files; what it has read it gives again, to all loaders of the process alike."""

    def load_file(self, file_path: str) -> Any:
        """The content of `file_path`.json, or None. Each loader merges the same additions into it."""
        return _read(file_path)


@cache
def _read(file_path: str) -> Any:
    return JSONFileLoader().load_file(file_path)


def keep() -> None:
    """From now on, for every session of this process that is made without a loader of its own."""
    Loader.FILE_LOADER_CLASS = KeptFiles
