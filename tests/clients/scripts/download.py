"""Download a page as astropy does for catalogues and names of sources; print its text.

download.py URL
"""

import sys
from pathlib import Path

from astropy.utils.data import download_file

print(Path(download_file(sys.argv[1], cache=False, show_progress=False)).read_text())
