"""Files that are written atomically, and read only with a matching digest.

Reading compares size and digest with those in a manifest. No format is known here (`fixture`, `capsule`).

Begin with `atomic.py`, `digests.py`.
"""
