"""The boot script's own calls to AWS, made by curl: signed so that AWS would accept them, and without a secret in any argv."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import re
import subprocess
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from agent.adapters.aws.sqs import region_of
from agent.contract.messages import BootstrapFailed, read_message
from sandbox.imds import ROLE, Metadata
from tests.answering import Answering, Asked
from tests.sandbox.boot_script import BOOT, Service, booted
from tests.wires import Authority, ConnectProxy, TlsFront


def told_headers(call: tuple[str, str, dict[str, str], bytes]) -> list[str]:
    """The names the signature covers."""
    return re.findall(r"SignedHeaders=([^,\s]+)", call[2]["authorization"])[0].split(";")  # type: ignore[no-any-return]


def signature(service: str, call: tuple[str, str, dict[str, str], bytes], secret: str) -> tuple[str, str]:
    """What the call says, and what AWS would compute. Source: "Create a signed AWS API request", IAM user guide."""
    method, path, headers, body = call
    told = dict(re.findall(r"(\w+)=([^,\s]+)", headers["authorization"]))
    day, region = told["Credential"].split("/")[1:3]
    parts = urlsplit(path)
    assert not parts.query
    digest = headers.get("x-amz-content-sha256") or hashlib.sha256(body).hexdigest()
    canonical = [method, parts.path, "", *(f"{name}:{headers[name].strip()}" for name in told["SignedHeaders"].split(";")), ""]
    canonical += [told["SignedHeaders"], digest]
    scope = f"{day}/{region}/{service}/aws4_request"
    text = "\n".join(
        ["AWS4-HMAC-SHA256", headers["x-amz-date"], scope, hashlib.sha256("\n".join(canonical).encode()).hexdigest()]
    )
    key = f"AWS4{secret}".encode()
    for word in (day, region, service, "aws4_request"):
        key = hmac.new(key, word.encode(), hashlib.sha256).digest()
    return told["Signature"], hmac.new(key, text.encode(), hashlib.sha256).hexdigest()


def role(metadata: Metadata) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(metadata.values[f"meta-data/iam/security-credentials/{ROLE}"])
    return found


def test_the_bundle_is_asked_for_and_the_failure_told_with_signatures_aws_would_accept(
    metadata: Metadata, service: Service, tmp_path: Path
) -> None:
    service.answer = b"not the bundle"

    told = booted(metadata, service, tmp_path, RUNS_FLEET_AGENT_BUNDLE="agent/bundle-1.tar.gz")

    assert (told.returncode, (tmp_path / "off").exists()) == (1, True), told.stderr
    fetched, sent = service.calls
    assert fetched[:2] == ("GET", "/config/agent/bundle-1.tar.gz")
    assert "x-amz-content-sha256" in fetched[2]  # without it S3 refuses. Source: "Authenticating Requests", S3 API reference
    for name, call in (("s3", fetched), ("sqs", sent)):
        said, computed = signature(name, call, role(metadata)["SecretAccessKey"])
        assert said == computed, name
        unsigned = {header for header in call[2] if header.startswith("x-amz-")} - set(told_headers(call))
        assert unsigned == set(), name
        assert call[2]["x-amz-security-token"] == role(metadata)["Token"]
    message = read_message(parse_qs(sent[3].decode())["MessageBody"][0])
    assert isinstance(message, BootstrapFailed)
    assert message.instance_id == "i-0123456789abcdef0"
    assert "FAILED" in message.error


def test_no_secret_is_in_any_command_line_or_file(metadata: Metadata, service: Service, tmp_path: Path) -> None:
    booted(metadata, service, tmp_path)

    secrets = [role(metadata)[name] for name in ("AccessKeyId", "SecretAccessKey", "Token")]
    kept = "".join(path.read_text("utf-8", "replace") for path in tmp_path.rglob("*") if path.is_file())
    assert "aws-sigv4" in kept
    assert [secret for secret in secrets if secret in kept] == []


def test_whatever_a_failure_printed_becomes_one_readable_message(metadata: Metadata, service: Service, tmp_path: Path) -> None:
    noise = r"""
exec >&2
printf 'a "quoted" \\back\\ line\n\033[31mred\033[0m \377\376 umlaut ä\n'
head -c 3000 /dev/zero | tr '\0' x
echo end
exit 1
"""
    (tmp_path / "start").write_text(f"#!/bin/bash\n{noise}\n", "utf-8")
    (tmp_path / "start").chmod(0o755)
    (tmp_path / "state").mkdir()
    script = BOOT.read_text("utf-8").replace('[ -z "${RUNS_FLEET_START:-}" ] || exec 2>&3', ":")
    changed = tmp_path / "boot.sh"
    changed.write_text(script, "utf-8")

    environment = {
        "PATH": os.environ["PATH"],
        "AWS_EC2_METADATA_SERVICE_ENDPOINT": metadata.url,
        "RUNS_FLEET_STATE_DIR": str(tmp_path / "state"),
        "RUNS_FLEET_ENVIRONMENT_FILE": str(tmp_path / "agent.env"),
        "RUNS_FLEET_POWER_OFF": "true",
        "RUNS_FLEET_START": str(tmp_path / "start"),
        "RUNS_FLEET_TERMINATION_QUEUE_URL": f"{service.url}/123456789012/terminations",
    }
    subprocess.run(["bash", str(changed)], env=environment, capture_output=True, timeout=600, check=False)

    message = read_message(parse_qs(service.calls[-1][3].decode())["MessageBody"][0])
    assert isinstance(message, BootstrapFailed)
    assert message.error.strip().endswith("end")
    assert len(message.error) <= 800
    assert message.error.isprintable()


@pytest.mark.parametrize(
    ("settings", "minutes"),
    [
        ({}, "411"),
        ({"RUNS_FLEET_MAX_RUNTIME": "10", "RUNS_FLEET_CONFIG_TIMEOUT_SECONDS": "60", "RUNS_FLEET_GRACE_SECONDS": "30"}, "56"),
    ],
)
def test_the_hard_deadline_is_the_runtime_and_what_it_takes_to_begin_and_to_end(
    metadata: Metadata, service: Service, tmp_path: Path, settings: dict[str, str], minutes: str
) -> None:
    booted(metadata, service, tmp_path, RUNS_FLEET_START="true", **settings)

    assert (tmp_path / "state" / "limit-minutes").read_text("ascii").strip() == minutes


NETWORK = {
    "HTTPS_PROXY": "http://fleet:s3cr%40t@proxy.test:3128",  # pragma: allowlist secret
    "http_proxy": "http://proxy.test:3128", "NO_PROXY": "10.0.0.0/8",
    "AWS_CA_BUNDLE": "/etc/authority.pem", "SSL_CERT_DIR": "/etc/authorities", "NODE_EXTRA_CA_CERTS": "/etc/authority.pem",
}  # fmt: skip


def test_how_the_network_is_reached_is_handed_on_to_the_agent_and_to_whoever_sends_the_last_will(
    metadata: Metadata, service: Service, tmp_path: Path
) -> None:
    booted(metadata, service, tmp_path, RUNS_FLEET_START="true", **NETWORK)

    handed = dict(line.split("=", 1) for line in (tmp_path / "agent.env").read_text("utf-8").splitlines())
    assert {name: handed[name] for name in NETWORK} == {name: f'"{value}"' for name, value in NETWORK.items()}
    functions = tmp_path / "state" / "boot-functions"
    words = f'. {functions}; printf "%s|" "$HTTPS_PROXY" "$http_proxy" "$AWS_CA_BUNDLE" "$ca"; declare -p SSL_CERT_DIR'
    said = subprocess.run(["bash", "-c", words], env={}, capture_output=True, text=True, check=True).stdout
    assert said.split("|")[:4] == [NETWORK["HTTPS_PROXY"], NETWORK["http_proxy"], *[NETWORK["AWS_CA_BUNDLE"]] * 2]
    assert said.split("|")[4].startswith("declare -x ")


def test_the_metadata_service_is_not_asked_through_a_proxy_and_aws_is_with_the_password(
    metadata: Metadata, service: Service, tmp_path: Path
) -> None:
    proxy = ConnectProxy("fleet", "s3cr@t")

    booted(metadata, service, tmp_path, http_proxy=proxy.url_with("fleet:s3cr%40t"), RUNS_FLEET_AGENT_BUNDLE="agent/bundle")

    aws = service.url.removeprefix("http://")
    assert set(proxy.asked) == {aws} and proxy.refused == 0
    assert [call[0] for call in service.calls] == ["GET", "POST"]  # the bundle and the word, both through it
    proxy.stop()


@pytest.mark.parametrize("name", ["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_an_authority_that_a_variable_names_is_trusted_by_the_boot_script_too(
    metadata: Metadata, service: Service, tmp_path: Path, name: str
) -> None:
    authority = Authority(tmp_path / "authority")
    front = TlsFront(service.url, authority)
    queue = f"{front.url}/123456789012/terminations"

    booted(
        metadata, service, tmp_path, AWS_ENDPOINT_URL_S3=front.url, RUNS_FLEET_TERMINATION_QUEUE_URL=queue,
        **{name: str(authority.path)},
    )  # fmt: skip

    assert [call[0] for call in service.calls] == ["GET", "POST"]
    front.stop()


def test_a_bundle_in_a_bucket_of_another_region_is_fetched_from_there(metadata: Metadata, tmp_path: Path) -> None:
    heard: list[tuple[str, str]] = []

    def answer(asked: Asked) -> tuple[int, bytes, dict[str, str]]:
        region = asked.headers.get("Authorization", "///").split("/")[2]
        heard.append((asked.method, region))
        if region == "eu-central-1":
            return 200, b"the bundle", {}
        return 301, b"", {"x-amz-bucket-region": "eu-central-1"}

    server = Answering(answer)
    queue = Service()

    booted(metadata, queue, tmp_path, AWS_ENDPOINT_URL_S3=server.url)

    assert ("GET", "eu-central-1") in heard
    assert "FAILED" in read_message(parse_qs(queue.calls[-1][3].decode())["MessageBody"][0]).error  # its digest, not its place
    server.stop()
    queue.stop()


@pytest.mark.parametrize(
    ("url", "region"),
    [
        ("https://sqs.eu-west-1.amazonaws.com/1/q", "eu-west-1"),
        ("https://eu-west-1.queue.amazonaws.com/1/q", "eu-west-1"),
        ("https://queue.us-gov-west-1.amazonaws.com/1/q", "us-gov-west-1"),
        ("https://vpce-0a1-b2.sqs.ap-southeast-2.vpce.amazonaws.com/1/q", "ap-southeast-2"),
        ("https://sqs.cn-north-1.amazonaws.com.cn/1/q", "cn-north-1"),
        ("http://127.0.0.1:5000/1/q", "us-east-1"),
    ],
)
def test_a_message_is_signed_for_the_region_that_the_queues_url_names(
    metadata: Metadata, service: Service, tmp_path: Path, url: str, region: str
) -> None:
    booted(metadata, service, tmp_path)
    words = f"RUNS_FLEET_TERMINATION_QUEUE_URL={url}; signed() {{ echo $AWS_REGION; }}; send word"

    told = subprocess.run(
        ["bash", "-c", f". {tmp_path}/state/boot-functions; {words}"], env={"PATH": os.environ["PATH"]}, capture_output=True,
        text=True, check=True,
    )  # fmt: skip

    assert told.stdout.strip() == region
    assert (region_of(url) or "us-east-1") == region
