"""Data products: FITS files, data units and the wire form of a dispatcher.

Arrays, headers and pickles are read and written bit for bit, without running their content. Clients are not known
here (`recordings`), nor what some release of the client cannot read (`compat`).

Begin with `product.py`: the values; then `wire.py` and `fits.py`.
"""
