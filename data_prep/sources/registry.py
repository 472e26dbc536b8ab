"""The sources by name; a new one is a line here."""

from __future__ import annotations

from data_prep.sources import Source, drawn, flickr30k, imagenet, own

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (flickr30k.SOURCE, imagenet.SOURCE, drawn.SOURCE, drawn.POOL, own.FOLDER, own.WEBDATASET, own.NONE)
}
