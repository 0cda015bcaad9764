"""Environment variables by which programs use a forward proxy and trust its certificates."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
BUNDLES = (
    "AWS_CA_BUNDLE",
    "CARGO_HTTP_CAINFO",
    "CURL_CA_BUNDLE",
    "DENO_CERT",
    "GIT_SSL_CAINFO",
    "HTTPLIB2_CA_CERTS",
    "NIX_SSL_CERT_FILE",
    "JULIA_SSL_CA_ROOTS_PATH",
    "NODE_EXTRA_CA_CERTS",
    "PERL_LWP_SSL_CA_FILE",
    "PIP_CERT",
    "REQUESTS_CA_BUNDLE",
    "SSL_CERT_FILE",
)
REMOVED = ("ALL_PROXY", "all_proxy", "NO_PROXY", "no_proxy", "SSL_CERT_DIR", "GIT_SSL_CAPATH")
"""Variables that would lead programs past the proxy, or away from the bundle."""


def proxy_environment(proxy_url: str, bundle: Path, wgetrc: Path) -> dict[str, str | None]:
    """Return the variables by which programs use a proxy and trust a bundle; None removes a variable."""
    variables: dict[str, str | None] = dict.fromkeys(REMOVED)
    variables |= dict.fromkeys(PROXIES, proxy_url)
    variables |= dict.fromkeys(BUNDLES, str(bundle))
    return variables | {"NODE_USE_ENV_PROXY": "1", "WGETRC": str(wgetrc)}


def wget_configuration(environ: Mapping[str, str], bundle: Path) -> str:
    """Return a configuration for wget: that of the user, and then the bundle, which wget reads from no variable."""
    home = environ.get("HOME")
    user = environ.get("WGETRC") or (f"{home}/.wgetrc" if home else "")
    try:
        own = Path(user).read_text(encoding="utf-8", errors="surrogateescape") if user else ""
    except OSError:  # wget would not read it either
        own = ""
    return f"{own.rstrip()}\nca_certificate = {bundle}\nuse_proxy = on\n".lstrip()
