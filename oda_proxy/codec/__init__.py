"""Data products: FITS files, data units and the wire form of a dispatcher.

Arrays, headers and pickles are read and written bit for bit, without running what they hold. Nothing is known of who
asked (`recordings`) or of what some client cannot read (`compat`).

Begin with `product.py`: the values; then `wire.py` and `fits.py`.
"""
