"""Warming: queries are run ahead of the clients who will send them, so that these get recordings.

A plan is read (`plan.py`) or made from a store (`selection.py`), and each of its queries is sent through a proxy, as a
client sends it. The output is printed in `commands.warm`.

Begin with `warm.py`.
"""
