"""Whether what clients send and receive can be read on the network."""

from __future__ import annotations

from typing import TYPE_CHECKING

from oda_proxy.http.loopback import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable


def exposure_warning(hosts: Iterable[str], *, has_tls: bool, public_url: str | None) -> str | None:
    """Return a warning where other machines reach this server at one of its `hosts` without encryption, or None."""
    exposed = [host for host in hosts if not is_loopback(host)]
    if not exposed or has_tls or (public_url or "").startswith("https:"):
        return None
    return (
        f"other machines reach this server at {', '.join(exposed)} without encryption: anyone on the way can read "
        "tokens and results. Use --tls-cert and --tls-key, or listen on 127.0.0.1 behind a front end with TLS and set "
        "--public-url https://... (docs/operations.md)"
    )
