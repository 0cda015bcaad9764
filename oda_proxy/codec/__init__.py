"""Data products: FITS, data units and the wire form of a dispatcher."""
