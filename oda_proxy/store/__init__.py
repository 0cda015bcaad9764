"""Stores of recordings: on disk and in memory, with freshness, eviction and maintenance.

The answer to an offline miss is here as well: which recording is nearest. What may be stored is decided by
`recordings`; whether a recording is private by `query.audience`.

Begin with `base.py`: the protocol of a store; `recording_cache.py`: answers to recordings, and back.
"""
