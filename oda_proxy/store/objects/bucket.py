"""Heads of recordings as objects in a bucket of a service with the protocol of S3.

The library is obstore: a binding of the object_store crate of Apache Arrow, with which a thread that waits for the
network leaves the interpreter to others, which sends large objects in parts, tries again, and reads credentials from
the environment, a container or the machine's role.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from datetime import timedelta
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Final

from oda_proxy.errors import OdaProxyError
from oda_proxy.http.encrypted_file import EncryptedFile
from oda_proxy.store.objects.bodies import INDEX_NAME, MAX_INDEX_NAME, BodiesUnusableError, is_name
from oda_proxy.store.objects.checked_head import check, opened

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from oda_proxy.recordings.head import Head
    from oda_proxy.store.redis.address import BucketAddress
    from oda_proxy.store.rows import HeadFile

_IN_MEMORY: Final = 8 * 1024 * 1024
"""Bytes of a compressed head above which it is read into an encrypted temporary file."""

_CONNECT_TIMEOUT: Final = timedelta(seconds=2)
_READ_TIMEOUT: Final = timedelta(seconds=20)
"""Time to wait for the next bytes."""
_ROLE_OF_MACHINE: Final = "//169.254.169.254/"
"""Where the library looks for credentials last: the service of a cloud that knows the role of the machine."""
_RETRIES: Final = 2
_RETRY_TIME: Final = timedelta(seconds=5)


class ObstoreMissingError(OdaProxyError):
    """The library obstore is not installed."""

    def __init__(self) -> None:
        super().__init__("heads in a bucket need the library obstore: pip install 'oda-proxy[s3]'")


class BucketBodies:
    """Heads as objects: `FOLDER/ab/abcd...`. Raises ObstoreMissingError; BodiesUnusableError for half a credential."""

    def __init__(self, address: BucketAddress, folder: str) -> None:
        """Take the address of the bucket, and a folder below its prefix."""
        if find_spec("obstore") is None:
            raise ObstoreMissingError
        from obstore.store import S3Store

        self._place = str(address)
        endpoint = address.endpoint or os.environ.get("AWS_ENDPOINT_URL") or os.environ.get("AWS_ENDPOINT") or ""
        config: dict[str, Any] = {"endpoint": address.endpoint, "region": address.region}
        with self._translated_errors():
            self._store = S3Store(
                address.bucket,
                prefix="/".join(filter(None, (address.prefix, folder))),
                config={name: value for name, value in config.items() if value is not None},  # type: ignore[arg-type]
                client_options={
                    "allow_http": endpoint.startswith("http://"),
                    "connect_timeout": _CONNECT_TIMEOUT,
                    "read_timeout": _READ_TIMEOUT,
                    "timeout": timedelta(hours=1),
                },
                retry_config={"max_retries": _RETRIES, "retry_timeout": _RETRY_TIME},
            )

    def probe(self) -> None:
        """Check that an object can be written, and removed."""
        import obstore

        with self._translated_errors():
            obstore.put(self._store, "probe", b"oda-proxy", use_multipart=False)

    @property
    def index_name_place(self) -> str:
        """Where the name of the index is, for a person."""
        return f"the object {INDEX_NAME} below {self._place}"

    def index_name(self) -> bytes | None:
        """Return the name of the index to which the heads belong; None where none was written."""
        import obstore

        with self._translated_errors():
            try:
                found = obstore.get(self._store, INDEX_NAME)
            except FileNotFoundError:
                return None
            return bytes(found.bytes()) if found.meta["size"] <= MAX_INDEX_NAME else b""

    def write_index_name(self, name: bytes) -> None:
        """Write the name of the index to which the heads belong."""
        import obstore

        with self._translated_errors():
            obstore.put(self._store, INDEX_NAME, name, use_multipart=False)

    def write(self, name: str, content: Sequence[bytes]) -> None:
        """Write a compressed head."""
        import obstore

        size = sum(map(len, content))
        with self._translated_errors():
            if size <= _IN_MEMORY:
                obstore.put(self._store, _path(name), b"".join(content), use_multipart=False)
            else:
                obstore.put(self._store, _path(name), iter(content))

    def open(self, name: str, head_file: HeadFile) -> Head:
        """Read a head, check it, and hold it in memory or, if it is large, in an encrypted temporary file."""
        import obstore

        with self._translated_errors(missing=None):
            found = obstore.get(self._store, _path(name))
            if found.meta["size"] != head_file.stored_size:
                raise ValueError("its head has another size")
            chunks = (bytes(chunk) for chunk in found.stream(min_chunk_size=1024 * 1024))
            return _held(chunks, head_file, self._place)

    def remove(self, name: str) -> None:
        """Remove a head, if it is there."""
        import obstore

        with self._translated_errors():
            try:
                obstore.delete(self._store, _path(name))
            except FileNotFoundError:  # S3 reports none, other services do
                return

    def names(self) -> Iterator[str]:
        """Iterate over the names of all heads."""
        import obstore

        with self._translated_errors():
            for batch in obstore.list(self._store):
                names = (one["path"].rpartition("/")[2] for one in batch)
                yield from (name for name in names if is_name(name))

    def remove_leftovers(self, *, before: float) -> int:  # noqa: ARG002 - of the protocol
        """Do nothing: parts of objects are removed by a rule of the bucket (docs/scale.md)."""
        return 0

    @contextmanager
    def _translated_errors(self, *, missing: str | None = "fails: it does not exist") -> Iterator[None]:
        """Raise BodiesUnusableError for an error; `missing` is what an absent object means, None for itself."""
        from obstore.exceptions import BaseError

        try:
            yield
        except FileNotFoundError as error:
            if missing is None:
                raise
            raise BodiesUnusableError(f"the bucket {self._place} {missing}") from error
        except (BaseError, OSError) as error:
            raise BodiesUnusableError(f"the bucket {self._place} fails: {_reason(error)}") from error


class _Held:
    """The bytes of an object in memory, or in an encrypted temporary file."""

    def __init__(self, size: int) -> None:
        self._memory = bytearray() if size <= _IN_MEMORY else None
        self._file = EncryptedFile() if self._memory is None else None
        self._size = 0

    def append(self, chunk: bytes) -> None:
        """Append bytes."""
        if self._file is not None:
            self._file.write(chunk, self._size)
        elif self._memory is not None:
            self._memory += chunk
        self._size += len(chunk)

    def read(self, size: int, at: int) -> bytes:
        """Read up to `size` bytes at an offset, none at the end."""
        if self._memory is not None:
            return bytes(self._memory[at : at + size])
        return self._file.read(size, at) if self._file is not None else b""

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()


def _held(chunks: Iterable[bytes], head_file: HeadFile, place: str) -> Head:
    """Return the head in the bytes of an object; raises ValueError where they are others than those written."""
    held = _Held(head_file.stored_size)

    def copied() -> Iterator[bytes]:
        for chunk in chunks:
            held.append(chunk)
            yield chunk

    try:
        check(copied(), head_file)
        return opened(held, head_file, place)
    except BaseException:
        held.close()
        raise


def _path(name: str) -> str:
    return f"{name[:2]}/{name}"


def _reason(error: Exception) -> str:
    """Return the kind of an error: messages of the library have URLs, and several lines."""
    text = str(error)
    if "NoSuchBucket" in text:
        return "it does not exist"
    if "Missing SecretAccessKey" in text or "Missing AccessKeyId" in text:
        return "only one of AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY is set"
    if _ROLE_OF_MACHINE in text:
        return "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set, and this machine has no role with credentials"
    kinds = {
        "PermissionDeniedError": "it refuses access",
        "UnauthenticatedError": "it refuses the credentials",
        "GenericError": "it cannot be reached, or reports an error",
    }
    return kinds.get(type(error).__name__, type(error).__name__)
