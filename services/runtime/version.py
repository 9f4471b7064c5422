"""Which version this is. Images carry the code without its package's metadata, so it stands here; a test compares the two."""

from typing import Final

VERSION: Final = "0.1.0"
