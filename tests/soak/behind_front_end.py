"""Let 30 clients of five releases use a proxy behind nginx for a minute, restart it meanwhile, and print what they saw.

The exit status is 1 if a client saw anything that it would not have seen from the dispatcher.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.support.environments import python_of
from tests.support.users import restart_behind_front_end

CROWD = [("1.3.5", 10), ("1.2.42", 5), ("1.2.1", 5), ("1.1.0", 5), ("1.0", 5)]


def main() -> int:
    """Run the scene."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long the clients use the proxy")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        result = restart_behind_front_end(
            Path(folder), lambda version: python_of(f"oda_api-{version}"), CROWD, seconds=options.seconds
        )
    products = sum(outcome.total() for outcome in result.outcomes)
    print(  # noqa: T201 - this is what the program is for
        f"30 clients: {products} products, {result.after} of them after the restart, during which "
        f"{result.jobs_at_restart} jobs ran; unexpected: {result.unexpected or 'nothing'}"
    )
    return 1 if result.unexpected else 0


if __name__ == "__main__":
    sys.exit(main())
