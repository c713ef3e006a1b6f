"""One bucket, by the real adapter: read from any byte on, written once, refused in our words."""

from __future__ import annotations


def test_an_object_in_s3_is_given_from_any_byte_on(moto: Moto) -> None:
    moto.client("s3").create_bucket(Bucket="config")
    moto.client("s3").put_object(Bucket="config", Key="release", Body=CONTENT)
    objects = S3Objects(Clients(Region({"AWS_REGION": "us-east-1"}, MetadataService({}))), "config")

    whole, rest = objects.open("release", 0), objects.open("release", 1_000_000)

    assert (whole.size, rest.size) == (len(CONTENT), len(CONTENT))
    assert b"".join(iter(lambda: whole.read(1 << 16), b"")) == CONTENT
    assert b"".join(iter(lambda: rest.read(1 << 16), b"")) == CONTENT[1_000_000:]
