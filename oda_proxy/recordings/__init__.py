"""An answer without its asker, and back.

Redacts a completed answer to a recording, proves that no secret is left, and splices a recording for the next asker.
Where recordings are kept is not known here (`store`), nor their form as files (`capsule`).

Begin with `recording.py`, then `redaction.py`.
"""
