"""An S3 API on this machine (moto's server), with buckets that lock objects."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from config.settings import S3


@dataclass(frozen=True)
class ObjectStore:
    """The server; each bucket is for one ledger."""

    endpoint: str
    client: Any

    def bucket(self, name: str, *, locks: bool = True) -> S3:
        """Make a bucket; the settings of an anchor in it."""
        self.client.create_bucket(Bucket=name, ObjectLockEnabledForBucket=locks)
        return S3(bucket=name, endpoint_url=self.endpoint, region="us-east-1", timeout=5)

    def versions(self, settings: S3) -> list[dict[str, Any]]:
        listed = self.client.list_object_versions(Bucket=settings.bucket, Prefix=settings.prefix)
        return list(listed.get("Versions", []))

    def key(self, settings: S3, number: int) -> str:
        return f"{settings.prefix}{number:012d}.json"


@contextmanager
def serving() -> Iterator[ObjectStore]:
    """Credentials have to stand in the environment."""
    import boto3
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    endpoint = f"http://{host}:{port}"
    try:
        yield ObjectStore(endpoint, boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1"))
    finally:
        server.stop()


CREDENTIALS = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_EC2_METADATA_DISABLED": "true"}
