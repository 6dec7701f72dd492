# Copyright the paddlerec-milvus authors. Apache-2.0, see LICENSE.
"""The log that comes with the package: what readers on goodreads.com read, in order.

A cut of goodbooks-10k, which ``datasets/goodbooks/make_cut.py`` makes; CC BY-SA 4.0, see NOTICE.
"""

from __future__ import annotations

from pathlib import Path

from paddlerec_milvus.data.sources import Interactions

FOLDER = Path(__file__).resolve().parent / "data"
CLICKS = FOLDER / "clicks.csv.gz"
"""uid, item, time: a row a click, by user and time, which is the place in the user's sequence."""
BOOKS = FOLDER / "books.csv.gz"
"""item, title, authors, year (negative: before Christ; empty: unknown), id in goodbooks-10k."""

SOURCE = Interactions(CLICKS, BOOKS)
"""As ``prepare.py --interactions clicks.csv.gz --items books.csv.gz`` reads them."""
