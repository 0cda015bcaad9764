"""Pages for people, below `/-/`: what is stored, what runs, and each recording.

View models are made of values, without I/O; templates write them as HTML, and escape all text. Pictures and files of
products are made in `drawing`; who may see what is decided in `access`.

Begin with `routes.py`: the pages; then `overview.py` and `recording_page.py`: what is on them.
"""
