"""A small evaluation set for tests."""

import io

from PIL import Image

from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.schema import CorpusImage, Qrel, Query
from mteb_vehicle_search.eval_set.writer import About, write_eval_set


def jpeg(number: int, size=(40, 32)) -> bytes:
    """Return a JPEG that differs from those of other numbers."""
    file = io.BytesIO()
    Image.new("RGB", size, (number * 37 % 256, number * 91 % 256, number * 13 % 256)).save(file, "JPEG")
    return file.getvalue()


def provenance(number: int, captioned: bool) -> dict:
    """Return a provenance row."""
    return {
        "source": "flickr30k" if captioned else "imagenet",
        "split": "train",
        "captioned": captioned,
        "class_index": -1 if captioned else 817,
        "wnid": "" if captioned else "n04285008",
        "class_name": "" if captioned else "sports car",
        "vehicle_score": 0.9 if captioned else None,
        "width": 40,
        "height": 32,
        "sha256": f"{number:064x}",
        "perceptual_hash": f"{number:016x}",
    }


def small_set(folder, captioned=6, distractors=30, captions=2, rows_per_file=8192, **changed) -> EvalSet:
    """Write a set of `captioned` + `distractors` images."""
    images = [CorpusImage(f"flickr30k/{n:04d}", jpeg(n), provenance(n, True)) for n in range(captioned)]
    images += [
        CorpusImage(f"imagenet/train/n{n:04d}", jpeg(n + 500), provenance(n + 500, False)) for n in range(distractors)
    ]
    texts = [(f"{n:04d}_caption_{c:02d}", f"flickr30k/{n:04d}") for n in range(captioned) for c in range(captions)]
    about = {
        "name": "vehicle-image-search",
        "title": "Vehicle Image Search",
        **{key: changed.pop(key) for key in About._fields if key in changed},
    }
    given = {
        "images": images,
        "queries": [Query(query, f"caption {query}") for query, _ in texts],
        "qrels": [Qrel(query, image) for query, image in texts],
        "rows_per_file": rows_per_file,
    }
    return write_eval_set(folder, About(**about), **{**given, **changed})
