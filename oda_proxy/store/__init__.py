"""Where recordings are kept, how long, and what is evicted first.

The back ends on disk and in memory, freshness, eviction, maintenance; what is said where a recording is missing. What
may be kept is decided by `recordings`; whether a recording is private by `query.audience`.

Begin with `base.py`: what every store does; `recording_cache.py`: answers on their way in and out.
"""
