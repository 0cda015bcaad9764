"""The guard of a server, from its options and files."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from oda_proxy.config.options import SERVE
from oda_proxy.config.settings import ServeOptions
from oda_proxy.config.sources import resolve_options
from oda_proxy.errors import UsageError
from oda_proxy.web.guarding import tokens_of

if TYPE_CHECKING:
    from pathlib import Path


def options(folder: Path, **flags: str) -> ServeOptions:
    (folder / "empty.toml").touch()
    texts = {name.replace("_", "-"): value for name, value in flags.items()}
    values = resolve_options(SERVE, texts, {}, folder / "empty.toml", warn=pytest.fail)
    return ServeOptions(**{name.replace("-", "_"): value for name, value in values.items()})


def token_file(folder: Path, text: str = "the admin token\n", mode: int = 0o600) -> str:
    file = folder / "token"
    file.write_text(text)
    file.chmod(mode)
    return str(file)


def test_tokens_come_from_files_and_are_read_again(tmp_path: Path) -> None:
    chosen = options(tmp_path, admin_token_file=token_file(tmp_path), read_token="the read token")  # noqa: S106 - of a test

    assert tokens_of(chosen).roles("the admin token") == {"administrator"}
    assert tokens_of(chosen).roles("the read token") == {"reader"}
    token_file(tmp_path, "another token")
    assert not tokens_of(chosen).roles("the admin token")
    assert tokens_of(chosen).roles("another token") == {"administrator"}


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o602, 0o666])
def test_a_file_that_others_can_read_or_write_is_refused(tmp_path: Path, mode: int) -> None:
    with pytest.raises(UsageError, match=r"can be read by other users .*chmod 600"):
        tokens_of(options(tmp_path, admin_token_file=token_file(tmp_path, mode=mode)))


@pytest.mark.parametrize("text", ["", " \n", "short", "one token\nand another\n", "caf\xe9 \x00 token", "x" * 2**17])
def test_a_file_without_one_token_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "token"
    file.write_bytes(text.encode("latin-1"))
    file.chmod(0o600)

    with pytest.raises(UsageError, match="must hold one line"):
        tokens_of(options(tmp_path, metrics_token_file=str(file)))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"--read-token-file .*nothing cannot be read: No such file"):
        tokens_of(options(tmp_path, read_token_file=str(tmp_path / "nothing")))


def test_a_token_is_given_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--admin-token and --admin-token-file are both set"):
        tokens_of(options(tmp_path, admin_token="a token", admin_token_file=token_file(tmp_path)))  # noqa: S106 - of a test


@pytest.mark.parametrize(
    ("name", "value"), [("readers", "me"), ("allowed-host", "http://example.org"), ("allowed-host", "example.org:80")]
)
def test_an_option_that_is_not_valid_is_refused(tmp_path: Path, name: str, value: str) -> None:
    with pytest.raises(UsageError, match=f"--{name} must be"):
        options(tmp_path, **{name: value})
