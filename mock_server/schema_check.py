"""Checks a value against a JSON schema within a time limit.

Patterns and references of a schema can make a check take years, and nothing interrupts it within a process. Schemas
that have them are checked in another process: this file, run as a script, which imports nothing of the package.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import lru_cache
from typing import Any, Final, Literal, TypeAlias

SchemaResult: TypeAlias = Literal["valid", "invalid", "bad schema", "too long"]

TIME_LIMIT: Final = 10.0
"""Seconds, with the start of the process."""
_MAY_TAKE_LONG: Final = ('"pattern', '"$ref"', '"$dynamicRef"', '"$recursiveRef"', '"uniqueItems"')
_RESULTS: Final[dict[str, SchemaResult]] = {"valid": "valid", "invalid": "invalid"}


def check_with_schema(value: Any, schema: Any, *, seconds: float = TIME_LIMIT) -> SchemaResult:
    """Return whether a JSON value is valid; references in the schema are never followed to other servers."""
    try:
        text = json.dumps([schema, value])
    except (RecursionError, ValueError, TypeError):
        return "bad schema"
    if not any(word in text for word in _MAY_TAKE_LONG):
        return _check(value, schema)
    return _check_in_process(text, seconds)


@lru_cache(maxsize=64)
def _check_in_process(text: str, seconds: float) -> SchemaResult:
    """Check a pair of schema and value; every poll of a job repeats the parameters of its query."""
    command = [sys.executable, "-P", __file__]
    try:
        done = subprocess.run(command, input=text, capture_output=True, text=True, timeout=seconds, check=False)  # noqa: S603 - this file
    except subprocess.TimeoutExpired:
        return "too long"
    return _RESULTS.get(done.stdout, "bad schema")


def _check(value: Any, schema: Any) -> SchemaResult:
    import jsonschema  # slow to import, and rarely needed
    import referencing

    try:
        checker = jsonschema.validators.validator_for(schema, default=jsonschema.Draft202012Validator)
        checker.check_schema(schema)
        is_valid = checker(schema, registry=referencing.Registry()).is_valid(value)
    except Exception:  # noqa: BLE001 - whoever wrote the schema decides which errors there are: of types, of URLs, ...
        return "bad schema"
    return "valid" if is_valid else "invalid"


if __name__ == "__main__":
    _schema, _value = json.load(sys.stdin)
    sys.stdout.write(_check(_value, _schema))
