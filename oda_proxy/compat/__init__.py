"""What some release of the client cannot read in an answer, and what none may load.

Repairs change no number (docs/repairs.md); screening finds what would run code in a client. Nothing is redacted or
kept here (`recordings`).

Begin with `repairs.py`: the list of repairs; `pipeline.py`: where they are applied.
"""
