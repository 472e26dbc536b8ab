"""Flickr30k: photographs with five captions each."""

from __future__ import annotations

from pathlib import Path

from data_prep.sources import CaptionedSource, Source
from mteb_vehicle_search.citations import FLICKR30K

IMAGES = 31_014
UIUC_IMAGES = 31_783


def open_flickr30k(src: str | Path = "hub", captions: str = "") -> CaptionedSource:
    """Flickr30k in whatever form it is held.

    Args:
        src: `hub` for the hub; else a folder, a zip or an address (zip, tar or unpacked images, with a captions file
            or the hub's; or parquet files).
        captions: Path or address of the captions file; empty for the one beside the images, or the hub's.

    Raises:
        SourceError: If `src` is none of these; says what was found and what is expected.
    """
    from data_prep.sources.flickr30k.source import open_source  # Reads parquet.

    return open_source(src, captions)


SOURCE = Source(
    name="flickr30k",
    card=(
        "**Flickr30k** (Young et al., 2014): photos with five captions each. Terms: non-commercial research and "
        "education only; the photos belong to their owners on Flickr."
    ),
    captioned=lambda place: open_flickr30k(place.src, place.captions),
    help="'hub' (default); or a folder or URL of the images, unpacked or in a zip or tar as the hub, UIUC and Kaggle "
    "have them, or of parquet files",
    terms="Flickr30k: non-commercial research and education only; the photos belong to their owners.",
    cite=(
        "Young, Lai, Hodosh, Hockenmaier: From image descriptions to visual denotations. TACL 2014.",
        "Plummer et al.: Flickr30k Entities. ICCV 2015.",
    ),
    bibtex=FLICKR30K,
    images=IMAGES,
    also_images=(UIUC_IMAGES,),
)
