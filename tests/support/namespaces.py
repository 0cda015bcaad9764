"""Network namespaces of programs that tests start (Linux)."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess


@functools.cache
def why_no_namespace() -> str:
    """Return why a program cannot have a network namespace here, or nothing; in CI it must be possible."""
    if shutil.which("unshare") is None:
        reason = "there is no unshare"
    else:
        command = ["unshare", "--map-root-user", "--net", "true"]
        reason = subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip()
    if reason and os.environ.get("CI"):
        raise AssertionError(f"CI must have network namespaces: {reason}")
    return reason
