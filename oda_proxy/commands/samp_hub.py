"""The SAMP hub of the user: which programs load files, and messages to them."""

from __future__ import annotations

import warnings
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final
from xmlrpc.client import Error as XmlRpcError

from oda_proxy.errors import OdaProxyError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from oda_proxy.drawing.samp_messages import Message

TIMEOUT: Final = 60
"""Seconds that a program has to load a file."""
_METADATA: Final = {"samp.name": "oda-proxy", "samp.description.text": "Sends products of recordings"}


class SampError(OdaProxyError):
    """A hub or one of its programs fails."""


class Hub:
    """A connection to a hub."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def programs(self) -> Mapping[str, str]:
        """Return the names of the connected programs, by their ids."""
        hub_id = getattr(self._client.client, "_hub_id", None)  # the library reads it and does not tell
        ids = [one for one in self._client.get_registered_clients() if one != hub_id]
        return {one: str(self._client.get_metadata(one).get("samp.name", one)) for one in ids}

    def subscribers(self, mtype: str) -> Sequence[str]:
        """Return the ids of the programs that take messages of an MType."""
        return [str(one) for one in self._client.get_subscribed_clients(mtype)]

    def send(self, receiver: str, message: Message) -> None:
        """Send a message and wait until the program has loaded the file. Raises SampError where it fails."""
        content = {"samp.mtype": message.mtype, "samp.params": dict(message.parameters)}
        try:
            response = self._client.call_and_wait(receiver, content, str(TIMEOUT))
        except (XmlRpcError, OSError) as error:
            raise SampError(f"it has not answered within {TIMEOUT} s, or is gone ({type(error).__name__})") from None
        if response.get("samp.status") == "samp.error":
            reason = str(response.get("samp.error", {}).get("samp.errortxt", "it does not say why"))
            raise SampError(" ".join(reason.split())[:200])


@contextmanager
def connected() -> Iterator[Hub | None]:
    """Connect to the hub of the user; None where none runs."""
    samp = _samp()
    client = samp.SAMPIntegratedClient(metadata=_METADATA, callable=False)
    try:
        client.connect()
    except (samp.SAMPHubError, XmlRpcError, OSError):
        yield None
        return
    try:
        yield Hub(client)
    except (samp.SAMPHubError, XmlRpcError, OSError) as error:
        raise SampError(f"the SAMP hub fails ({type(error).__name__})") from None
    finally:
        with suppress(samp.SAMPHubError, XmlRpcError, OSError):
            client.client.unregister()  # `disconnect` does nothing for a client that takes no messages
            client.hub.disconnect()


def _samp() -> Any:
    """Return the SAMP library: that of astropy, or its successor in pyvo where astropy has it no more."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # astropy 8 says that its library moves
        try:
            from astropy import samp
        except ImportError:
            try:
                from pyvo import samp
            except ImportError:
                raise SampError("this astropy has no SAMP any more: pip install pyvo") from None
    samp.conf.use_internet = False
    return samp
