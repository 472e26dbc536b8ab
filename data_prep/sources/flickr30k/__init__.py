"""Flickr30k: photographs with five captions each."""

from __future__ import annotations

from pathlib import Path

from data_prep.sources import CaptionedSource, Source
from mteb_vehicle_search.citations import FLICKR30K

IMAGES = 31_014


def open_flickr30k(src: str | Path = "hub", download_folder: Path | None = None) -> CaptionedSource:
    """Flickr30k in whatever form it is held.

    Args:
        src: `hub` for the hub; else a folder (zip + CSV, unpacked images + CSV, or parquet files).
        download_folder: Not used: the zip stays in the hub's cache.

    Raises:
        SourceError: If `src` is none of these; says what was found and what is expected.
    """
    from data_prep.sources.flickr30k.source import open_source  # Reads parquet.

    return open_source(src)


SOURCE = Source(
    name="flickr30k",
    card=(
        "**Flickr30k** (Young et al., 2014): photos with five captions each. Terms: non-commercial research and "
        "education only; the photos belong to their owners on Flickr."
    ),
    captioned=open_flickr30k,
    help="'hub' (default), or a folder with the captions CSV and the zip or the images, or of parquet files",
    terms="Flickr30k: non-commercial research and education only; the photos belong to their owners.",
    cite=(
        "Young, Lai, Hodosh, Hockenmaier: From image descriptions to visual denotations. TACL 2014.",
        "Plummer et al.: Flickr30k Entities. ICCV 2015.",
    ),
    bibtex=FLICKR30K,
    images=IMAGES,
)
