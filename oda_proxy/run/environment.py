"""Environment variables by which programs use a forward proxy and trust its certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
BUNDLES = (
    "AWS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "HTTPLIB2_CA_CERTS",
    "NIX_SSL_CERT_FILE",
    "NODE_EXTRA_CA_CERTS",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)
REMOVED = ("ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_DIR", "GIT_SSL_CAPATH")
"""Variables that would lead programs past the proxy, or away from the bundle."""


def proxy_environment(proxy_url: str, bundle: Path) -> dict[str, str | None]:
    """Return the variables by which programs use a proxy and trust a bundle; None removes a variable."""
    variables: dict[str, str | None] = dict.fromkeys(REMOVED)
    variables |= dict.fromkeys(PROXIES, proxy_url)
    variables |= dict.fromkeys(BUNDLES, str(bundle))
    return variables | {"NODE_USE_ENV_PROXY": "1"}
