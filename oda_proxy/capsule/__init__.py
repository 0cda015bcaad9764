"""What one run asked for, as a folder that can be published (docs/capsules.md).

Recordings as fixtures and back, plain HTTP exchanges, failures, the manifest and the RO-Crate. No command is run here
(`run`).

Begin with `capsule.py`, then `conversion.py`.
"""
