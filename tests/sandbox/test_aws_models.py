"""What describes AWS's services is read once for the process, and answers as botocore's own reader does."""

from __future__ import annotations

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
