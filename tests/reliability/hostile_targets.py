"""What reads files that people get from others, and what of each kind it is tried on.

A reader that is added gets an entry in one of these.
"""

from hostile_annotations import TARGETS as ANNOTATIONS
from hostile_books import TARGETS as BOOKS
from hostile_pictures import TARGETS as PICTURES
from hostile_streams import TARGETS as STREAMS
from hostile_weights import TARGETS as WEIGHTS

__all__ = ["TARGETS"]

TARGETS = {**PICTURES, **WEIGHTS, **ANNOTATIONS, **BOOKS, **STREAMS}
"""Name -> how it is tried."""
