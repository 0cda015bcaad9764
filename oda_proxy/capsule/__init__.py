"""The requests of one run and their answers, as a folder that can be published (docs/capsules.md).

Converts recordings to fixtures and back; reads and writes plain HTTP exchanges, the manifest and the RO-Crate.
Commands are run elsewhere (`run`).

Begin with `manifest.py`, then `capsule.py` (reading) and `writer.py` (writing).
"""
