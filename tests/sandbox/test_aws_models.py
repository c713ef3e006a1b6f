"""What describes AWS's services is read once for the process, and answers as botocore's own reader does."""

from __future__ import annotations

from pathlib import Path

import botocore.session
from botocore.loaders import JSONFileLoader, Loader

from sandbox import aws_models


def test_sessions_share_what_was_read_and_a_client_still_has_its_calls() -> None:
    aws_models.keep()
    first, second = (botocore.session.Session().get_component("data_loader") for _ in range(2))

    models = [loader.load_service_model("sts", "service-2") for loader in (first, second)]

    assert models[0]["operations"] is models[1]["operations"]
    own = Loader(file_loader=JSONFileLoader()).load_service_model("sts", "service-2")
    assert own == models[0] and own["operations"] is not models[0]["operations"]


def test_a_file_that_is_not_there_is_none_as_for_botocore() -> None:
    assert aws_models.KeptFiles().load_file("/nowhere/service-2") is JSONFileLoader().load_file("/nowhere/service-2") is None


def test_services_are_listed_as_botocore_lists_them_and_of_the_loaders_own_folders(tmp_path: Path) -> None:
    (tmp_path / "ours" / "2026-01-01").mkdir(parents=True)
    (tmp_path / "ours" / "2026-01-01" / "service-2.json").write_text("{}", "utf-8")
    aws_models.keep()
    usual, with_ours = Loader(), Loader(extra_search_paths=[str(tmp_path)])

    for kind in ("service-2", "paginators-1"):
        assert usual.list_available_services(kind) == aws_models.LIST_SERVICES(Loader(), kind)
    assert {*with_ours.list_available_services("service-2")} == {*usual.list_available_services(type_name="service-2"), "ours"}
    usual.list_available_services("service-2").clear()
    assert "ec2" in Loader().list_available_services("service-2")
