"""ImageNet-1k: photographs of one object class each, without captions."""

from __future__ import annotations

from pathlib import Path

from data_prep.sources import DistractorSource, PerClass, Source

BIBTEX = """\
@article{russakovsky2015imagenet,
  author = {Russakovsky, Olga and Deng, Jia and Su, Hao and Krause, Jonathan and Satheesh, Sanjeev and Ma, Sean
            and Huang, Zhiheng and Karpathy, Andrej and Khosla, Aditya and Bernstein, Michael and Berg, Alexander C.
            and Fei-Fei, Li},
  title = {{ImageNet} Large Scale Visual Recognition Challenge},
  journal = {International Journal of Computer Vision},
  volume = {115},
  number = {3},
  pages = {211--252},
  year = {2015}
}
"""


def open_imagenet(src: str | Path = "hub", download_folder: Path | None = None) -> DistractorSource:
    """ImageNet-1k (train and validation) in whatever form it is held.

    Args:
        src: `hub` for the hub; else a folder, a zip or an address of the hub's shards, the hub's cache, the original
            tar files, Kaggle's copy, webdataset tars, or an ImageFolder tree.
        download_folder: Where shards from the hub lie while they are in use; a temporary folder by default.

    Raises:
        SourceError: If `src` is none of these; says what was found and what is expected.
    """
    from data_prep.sources.imagenet.source import open_source  # Reads parquet.

    return open_source(src, download_folder)


SOURCE = Source(
    name="imagenet",
    card=(
        "**ImageNet-1k** (ILSVRC 2012, Russakovsky et al., 2015): photos of one object class each. Terms: "
        "non-commercial research and education only; the photos belong to their owners."
    ),
    distractors=lambda place, captioned: open_imagenet(place.src, place.downloads),
    help="'hub' (default); or a folder or URL of the hub's shards, the original tars, Kaggle's copy or zip, webdataset "
    "tars, or train/ and val/",
    terms="ImageNet: non-commercial research and education only; copies must not be published.",
    cite=("Russakovsky et al.: ImageNet Large Scale Visual Recognition Challenge. IJCV 2015.",),
    bibtex=BIBTEX,
    # ILSVRC 2012: 732 to 1,300 training images of a class, 50 for validation (Russakovsky et al., 2015, table 2).
    per_class={"train": PerClass(732, 1_300), "val": PerClass(50, 50)},
)
