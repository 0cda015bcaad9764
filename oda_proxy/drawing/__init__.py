"""Pictures and files of the products of a recording.

The core chooses what to draw of a product, and makes figures and files of it, without I/O. A process of its own, with
limits of time and memory, runs it: a hostile product costs a server nothing but that process.

Begin with `product_list.py`: the products of a recording; then `choice.py` and `figure.py`.
"""
