"""What a dispatcher answers otherwise today than when it was recorded.

Asks again, and compares two answers product by product, number by number. What is printed is in `commands.diff`.

Begin with `comparison.py`.
"""
