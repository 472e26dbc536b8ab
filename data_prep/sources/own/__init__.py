"""Images of one's own, with captions in a table or beside them, and without any."""

from __future__ import annotations

from data_prep.sources import CaptionedSource, DistractorSource, Place, Source

BESIDE = "beside"  # In place of a table: captions lie in a file beside each image.


def _folder(place: Place) -> CaptionedSource:
    from data_prep.sources.own.opening import open_folder  # Reads parquet.

    return open_folder(place)


def _folder_distractors(place: Place, captioned: Place | None) -> DistractorSource:
    from data_prep.sources.own.opening import open_folder_distractors

    return open_folder_distractors(place, captioned)


def _webdataset(place: Place) -> CaptionedSource:
    from data_prep.sources.own.opening import open_webdataset

    return open_webdataset(place)


def _webdataset_distractors(place: Place, captioned: Place | None) -> DistractorSource:
    from data_prep.sources.own.opening import open_webdataset_distractors

    return open_webdataset_distractors(place, captioned)


def _nothing(place: Place, captioned: Place | None) -> DistractorSource:
    from data_prep.sources.own.nothing import NoDistractors

    return NoDistractors()


# Sets hold these words, in their manifests, cards and digests, so that they stay.
_TERMS = "Images of your own: make sure that their rights allow what you do with them."
FOLDER = Source(
    name="folder",
    card="**Images of one's own**, from a folder or an archive; their rights are those of whoever made them.",
    captioned=_folder,
    distractors=_folder_distractors,
    terms=_TERMS,
    located=True,
    keeps_endings=True,
)
WEBDATASET = Source(
    name="webdataset",
    card="**Images of one's own**, from webdataset tars; their rights are those of whoever made them.",
    captioned=_webdataset,
    distractors=_webdataset_distractors,
    terms=_TERMS,
    located=True,
    keeps_endings=True,
)
NONE = Source(name="none", card="No distractors.", distractors=_nothing)
