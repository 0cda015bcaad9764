"""Validate an RO-Crate with roc-validator, without a network; print what it finds, as JSON.

The JSON-LD context of RO-Crate 1.1 is the one in the package rocrate. That of workflow runs says no more of what a
capsule has than this: what `sha256` is.
"""

import json
import sys
from pathlib import Path

import rocrate
from rocrate_validator import services
from rocrate_validator.models import Severity
from rocrate_validator.utils.http import HttpRequester

CONTEXTS = {
    "https://w3id.org/ro/crate/1.1/context": json.loads(
        (Path(rocrate.__file__).parent / "data" / "ro-crate.jsonld").read_text()
    ),
    "https://w3id.org/ro/terms/workflow-run/context": {
        "@context": {"sha256": "https://w3id.org/ro/terms/workflow-run#sha256"}
    },
}


class Told:
    """An answer with a context."""

    status_code = 200
    headers = {"Content-Type": "application/ld+json"}  # noqa: RUF012 - never changed

    def __init__(self, context):
        self.text = json.dumps(context)
        self.content = self.text.encode()

    def json(self):
        """Give the context."""
        return json.loads(self.text)

    def raise_for_status(self):
        """Do nothing."""


def get(url, *_args, **_options):
    """Give a context instead of fetching it."""
    return Told(CONTEXTS[url])


def main():
    """Validate the crate in the folder that is named first."""
    requester = HttpRequester()
    requester.get = get
    result = services.validate(
        {
            "rocrate_uri": sys.argv[1],
            "profile_identifier": "process-run-crate-0.5",
            "requirement_severity": Severity.RECOMMENDED,
        }
    )
    found = [[str(issue.severity), issue.check.identifier, issue.message] for issue in result.get_issues()]
    print(json.dumps(found))


main()
