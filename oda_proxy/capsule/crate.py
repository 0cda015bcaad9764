"""RO-Crate 1.1 metadata of a capsule, with the profile Process Run Crate 0.5, for repositories.

One run of a program (a CreateAction) made the files. The licence is left to the author: authors who publish a capsule
set `license` of the entity `./`, and `agent` of the action.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping

CRATE: Final = "https://w3id.org/ro/crate/1.1"
PROFILE: Final = "https://w3id.org/ro/wfrun/process/0.5"
HOME: Final = "https://pypi.org/project/oda-proxy/"

_CONTEXT: Final = ["https://w3id.org/ro/crate/1.1/context", "https://w3id.org/ro/terms/workflow-run/context"]
_FORMATS: Final = {".json": "application/json", ".fits": "application/fits"}
_ANY_FORMAT: Final = "application/octet-stream"
_NO_LICENCE: Final = "#licence-to-be-chosen"
_RUN: Final = "#run"


def metadata(manifest: Mapping[str, Any], *, manifest_file: Mapping[str, Any]) -> dict[str, Any]:
    """Return the content of `ro-crate-metadata.json` for a capsule.

    Parameters
    ----------
    manifest
        The content of `capsule.json` of a run that has ended.
    manifest_file
        Name, size and SHA-256 of `capsule.json` itself: `{"name": ..., "size": ..., "sha256": ...}`.
    """
    files = {manifest_file["name"]: manifest_file, **manifest["files"]}
    software = _software(manifest["versions"])
    graph = [
        {
            "@id": "ro-crate-metadata.json",
            "@type": "CreativeWork",
            "conformsTo": {"@id": CRATE},
            "about": {"@id": "./"},
        },
        _root(manifest, files),
        {"@id": PROFILE, "@type": "CreativeWork", "name": "Process Run Crate", "version": "0.5"},
        {
            "@id": _NO_LICENCE,
            "@type": "CreativeWork",
            "name": "Licence to be chosen",
            "description": "The author of this capsule has not chosen a licence yet.",
        },
        *software,
        _action(manifest, files),
        *(_file(path, file) for path, file in sorted(files.items())),
    ]
    return {"@context": _CONTEXT, "@graph": graph}


def _root(manifest: Mapping[str, Any], files: Mapping[str, Any]) -> dict[str, Any]:
    urls = ", ".join(dispatcher["url"] for dispatcher in manifest["dispatchers"]) or "no dispatcher"
    return {
        "@id": "./",
        "@type": "Dataset",
        "name": "Requests of an analysis to ODA/MMODA and their answers",
        "description": f"Requests to {urls} and their answers, recorded by oda-proxy while a program ran. "
        "`oda-proxy replay` runs the program again with the same answers.",
        "datePublished": _time(manifest["ended"]),
        "license": {"@id": _NO_LICENCE},
        "conformsTo": {"@id": PROFILE},
        "hasPart": [{"@id": _id(path)} for path in sorted(files)],
        "mentions": {"@id": _RUN},
    }


def _software(versions: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the programs that took part, the recorder first, each with every version that was seen."""
    programs = [_program("oda_proxy", "oda-proxy", HOME, versions["oda_proxy"])]
    programs += [_program("python", "Python", "https://www.python.org/", versions["python"])]
    for version in versions.get("oda_api", ()):
        programs.append(_program("oda_api", "oda_api", "https://pypi.org/project/oda-api/", version))
    for version in versions.get("dispatcher", ()):
        home = "https://pypi.org/project/cdci-data-analysis/"
        programs.append(_program("dispatcher", "ODA dispatcher (cdci_data_analysis)", home, version))
    return programs


def _program(kind: str, name: str, home: str, version: str) -> dict[str, Any]:
    return {
        "@id": f"{home}#{quote(kind)}-{quote(version, safe='')}",
        "@type": "SoftwareApplication",
        "name": name,
        "url": home,
        "softwareVersion": version,
    }


def _action(manifest: Mapping[str, Any], files: Mapping[str, Any]) -> dict[str, Any]:
    succeeded = manifest["exit_status"] == 0
    error = {} if succeeded else {"error": f"The program ended with status {manifest['exit_status']}."}
    return {
        "@id": _RUN,
        "@type": "CreateAction",
        "name": "Run of a program whose requests were recorded",
        "description": " ".join(manifest["command"]) or "Requests were recorded from within a program.",
        "instrument": [{"@id": program["@id"]} for program in _software(manifest["versions"])],
        "startTime": _time(manifest["created"]),
        "endTime": _time(manifest["ended"]),
        "actionStatus": f"http://schema.org/{'CompletedActionStatus' if succeeded else 'FailedActionStatus'}",
        "result": [{"@id": _id(path)} for path in sorted(files)],
        **error,
    }


def _time(text: str) -> str:
    """Return a time with its zone in the form that the profile requires."""
    return text.replace("Z", "+00:00")


def _file(path: str, file: Mapping[str, Any]) -> dict[str, Any]:
    suffix = path[path.rfind(".") :] if "." in path else ""
    return {
        "@id": _id(path),
        "@type": "File",
        "name": path.rpartition("/")[2],
        "encodingFormat": _FORMATS.get(suffix, _ANY_FORMAT),
        "contentSize": str(file["size"]),
        "sha256": file["sha256"],
    }


def _id(path: str) -> str:
    return quote(path)
