"""botocore looks for its descriptions of AWS's services (four hundred folders) and reads them (EC2's has 10 MB) anew for each
session; `keep` has it do so once."""

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


LIST_SERVICES = Loader.list_available_services
"""botocore's own way."""


@cache
def _listed(paths: tuple[str, ...], kind: str) -> list[str]:
    return list(LIST_SERVICES(Loader(extra_search_paths=list(paths), include_default_search_paths=False), kind))


def _services(loader: Any, type_name: str) -> list[str]:
    """botocore's own list, of the same folders."""
    return list(_listed(tuple(loader.search_paths), type_name))


def keep() -> None:
    """From now on, for every session of this process that is made without a loader of its own."""
    Loader.FILE_LOADER_CLASS = KeptFiles
    Loader.list_available_services = _services
