"""Repairs of what some release of the client cannot read, and screening for what none may load.

Repairs change no number (docs/repairs.md); screening finds what would run code in a client. Nothing is redacted or
stored here (`recordings`).

Begin with `repairs.py`: the table; `answer_repairs.py`: a whole answer; `pipeline.py`: where both are applied.
"""
