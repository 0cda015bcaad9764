"""Files on disk that are trusted only as far as they were checked.

Writing a file whole or not at all; reading files as a manifest lists them, with size and digest. No format is known
here (`fixture`, `capsule`).

Begin with `atomic.py`, `digests.py`.
"""
