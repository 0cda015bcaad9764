"""A capsule is described as an RO-Crate, as readers of the specifications want it."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from oda_proxy.capsule.crate import metadata
from oda_proxy.capsule.output import capsule_output
from oda_proxy.handlers.collection_export import export_collection
from oda_proxy.recordings import failures
from oda_proxy.store.collection_index import CollectionIndex
from oda_proxy.store.collections import ADDRESS, CLIENT, FAILURE, RECORDING, Member
from oda_proxy.store.memory import MemoryStore
from tests.support import capsules
from tests.support.paths import CLIENT_SCRIPTS as CLIENTS
from tests.support.real_clients import environment

if TYPE_CHECKING:
    from pathlib import Path

MANIFEST: dict[str, Any] = {
    "created": "2026-01-31T12:00:00Z",
    "ended": "2026-01-31T12:34:56Z",
    "exit_status": 0,
    "command": ["python", "analysis.py"],
    "versions": {"oda_proxy": "0.1.0", "python": "3.12.1", "oda_api": ["1.0", "1.3.5"], "dispatcher": ["1.3.6"]},
    "dispatchers": [{"name": "x", "url": "https://dispatcher.example/", "addresses": []}],
    "files": {
        "dispatchers/x/fixtures/isgri/isgri_lc/a/lc.fits": {"size": 2880, "sha256": "0" * 64},
        "dispatchers/x/descriptions/a%20b.json": {"size": 5, "sha256": "1" * 64},
        "exchanges/a.body": {"size": 1, "sha256": "2" * 64},
    },
}
ITSELF = {"name": "capsule.json", "size": 7, "sha256": "3" * 64}
LEFT_TO_THE_AUTHOR = {
    "The Action SHOULD have an agent that is a Person or Organization",
    "The Root Data Entity SHOULD have a link to a Contextual Entity representing the `author` of the RO-Crate",
    "The `publisher` property of a `Root Data Entity` SHOULD be an `Organization`",
}


def entities(**changes: Any) -> dict[str, Any]:
    described = metadata({**MANIFEST, **changes}, manifest_file=ITSELF)
    return {entity["@id"]: entity for entity in described["@graph"]}


def test_every_file_is_a_part_with_its_form_size_and_digest() -> None:
    found = entities()
    files = {name: entity for name, entity in found.items() if entity["@type"] == "File"}

    assert {name: (file["encodingFormat"], file["contentSize"], file["sha256"][0]) for name, file in files.items()} == {
        "capsule.json": ("application/json", "7", "3"),
        "dispatchers/x/fixtures/isgri/isgri_lc/a/lc.fits": ("application/fits", "2880", "0"),
        "dispatchers/x/descriptions/a%2520b.json": ("application/json", "5", "1"),
        "exchanges/a.body": ("application/octet-stream", "1", "2"),
    }
    assert {part["@id"] for part in found["./"]["hasPart"]} == files.keys()
    assert {part["@id"] for part in found["#run"]["result"]} == files.keys()


def test_one_run_of_the_software_made_them() -> None:
    found = entities()
    run = found["#run"]

    assert found["./"]["mentions"] == {"@id": "#run"}
    assert (run["startTime"], run["endTime"]) == ("2026-01-31T12:00:00+00:00", "2026-01-31T12:34:56+00:00")
    assert run["actionStatus"] == "http://schema.org/CompletedActionStatus"
    assert run["description"] == "python analysis.py"
    programs = [found[tool["@id"]] for tool in run["instrument"]]
    assert [(program["name"], program["softwareVersion"]) for program in programs] == [
        ("oda-proxy", "0.1.0"),
        ("Python", "3.12.1"),
        ("oda_api", "1.0"),
        ("oda_api", "1.3.5"),
        ("ODA dispatcher (cdci_data_analysis)", "1.3.6"),
    ]


def test_a_failed_run_is_marked() -> None:
    run = entities(exit_status=3)["#run"]

    assert run["actionStatus"] == "http://schema.org/FailedActionStatus"
    assert run["error"] == "The program ended with status 3."
    assert "error" not in entities()["#run"]


def test_every_entity_that_is_referenced_is_described() -> None:
    found = entities()

    named = {reference["@id"] for entity in found.values() for reference in references(entity)}

    assert {name for name in named - found.keys() if not name.startswith("https://w3id.org/ro/crate")} == set()


def references(entity: dict[str, Any]) -> list[dict[str, str]]:
    values = [one for value in entity.values() for one in (value if isinstance(value, list) else [value])]
    return [value for value in values if isinstance(value, dict)]


def test_the_licence_is_left_to_the_author() -> None:
    found = entities()

    assert "not chosen" in found[found["./"]["license"]["@id"]]["description"]


@pytest.mark.real
@pytest.mark.parametrize("exit_status", [0, 1])
def test_a_validator_of_the_profile_finds_only_what_is_left_to_the_author(tmp_path: Path, exit_status: int) -> None:
    """roc-validator 0.13.0 checks what RO-Crate 1.1 and Process Run Crate 0.5 require and recommend."""
    writer, dispatcher = capsules.begun(tmp_path / "c")
    dispatcher.save_recording(capsules.with_arrays())
    writer.note_version("oda_api", "1.3.5")
    writer.finish(exit_status)

    assert found_by_validator(tmp_path / "c") == LEFT_TO_THE_AUTHOR


@pytest.mark.real
@pytest.mark.parametrize("name", ["paper", "paper.zip"])
def test_a_validator_finds_no_more_in_an_exported_collection(tmp_path: Path, name: str) -> None:
    store, index = MemoryStore(), CollectionIndex(tmp_path / "store", lambda: capsules.STORED_AT)
    recording = capsules.with_arrays()
    store.put(recording)
    failure = capsules.failed("bad_RA.400", capsules.query(RA="a"))
    for member in (
        Member(RECORDING, recording.key, 1, 0.0, was_pinned=False, content=None),
        Member(FAILURE, failure.key, 1, 0.0, was_pinned=False, content=failures.serialise(failure).encode()),
    ):
        index.note("paper", "", member, 10, [(CLIENT, "1.3.5"), (ADDRESS, "http://here/in/paper")])
    with capsule_output(tmp_path / name) as folder:
        exported = export_collection(
            index, index.find("paper"), store, folder, url=capsules.URL, store_folder=None, include_private=False
        )

    assert (exported.recordings, exported.failures, exported.missing) == (1, 1, {})
    assert found_by_validator(tmp_path / name) == LEFT_TO_THE_AUTHOR


def found_by_validator(crate: Path) -> set[str]:
    """Return the messages of roc-validator about a folder or a zip file."""
    command = [environment("roc-validator-0.13.0"), CLIENTS / "validate_crate.py", crate]
    ended = subprocess.run(command, cwd=crate.parent, capture_output=True, text=True, check=True)
    return {message for _, _, message in json.loads(ended.stdout)}
