"""Recordings: answers without their client, and answers made of them for other clients.

Redacts a completed answer to a recording, checks that no secret is left in it, and splices a recording into an answer
for another client. Storing recordings is left to `store`, writing them as files of a capsule to `capsule`.

Begin with `recording.py`, then `redaction.py`.
"""
