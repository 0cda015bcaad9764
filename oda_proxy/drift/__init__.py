"""Changes of a dispatcher's results since they were recorded (drift).

Reruns recorded queries, and compares the products of both responses number by number. The output is printed in
`commands.diff`.

Begin with `drifts.py`: one query, rerun and compared; then `comparison.py`.
"""
