"""One command, recorded or replayed.

Listens for whatever a command asks, as a forward proxy with a certificate authority of this run, and answers it from
a dispatcher or a capsule. What a capsule holds is not known here (`capsule`), nor what is told on the terminal
(`commands`).

Begin with `recorder.py` and `replayer.py`, then `listeners.py`.
"""
