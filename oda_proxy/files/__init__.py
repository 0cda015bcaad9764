"""Files that are written atomically, and read only with a matching digest.

Reading compares size and digest with those in a manifest. Of formats, only that of the configuration file is known here
(`fixture` and `capsule` have their own).

Begin with `atomic.py`, `digests.py`.
"""
