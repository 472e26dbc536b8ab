"""A local server that speaks S3, and what points its clients to it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import boto3
import pytest
import s3fs
from moto.server import ThreadedMotoServer

LOGIN = {"AWS_ACCESS_KEY_ID": "testing", "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1"}
_OTHERS = ("AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_CA_BUNDLE", "FSSPEC_S3_ANON", "http_proxy", "HTTP_PROXY")


class S3Server:
    """An empty S3; see `serving`."""

    def __init__(self) -> None:
        self._server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
        self._server.start()
        host, port = self._server.get_host_and_port()
        self.url = f"http://{host}:{port}"

    def client(self) -> Any:
        """A client of its own, with a login."""
        return boto3.client(
            "s3",
            endpoint_url=self.url,
            **{name.lower(): value for name, value in LOGIN.items() if "KEY" in name},
            region_name="us-east-1",
        )

    def put(self, bucket: str, name: str, content: bytes) -> None:
        """Put an object into a bucket that exists."""
        self.client().put_object(Bucket=bucket, Key=name, Body=content)

    def upload(self, folder: Path, bucket: str, prefix: str = "") -> None:
        """Put all files of a folder into a bucket, which is made if need be."""
        client = self.client()
        client.create_bucket(Bucket=bucket)
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                name = path.relative_to(folder).as_posix()
                client.put_object(Bucket=bucket, Key=f"{prefix}{name}", Body=path.read_bytes())

    def close(self) -> None:
        self._server.stop()


@contextmanager
def serving() -> Iterator[S3Server]:
    """Give a server for as long as it is used."""
    server = S3Server()
    try:
        yield server
    finally:
        server.close()


def point_to(server: S3Server, monkeypatch: pytest.MonkeyPatch, home: Path, login: bool = True) -> None:
    """Let clients in this process know only that server, and no login but a false one."""
    for name in (*LOGIN, *_OTHERS):
        monkeypatch.delenv(name, raising=False)
    for name, value in LOGIN.items() if login else ():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL", server.url)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(home / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(home / "credentials"))
    # fsspec keeps clients, which keep what the environment said.
    s3fs.S3FileSystem.clear_instance_cache()
