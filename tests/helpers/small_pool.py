"""A small evaluation set that is a sample of a pool."""

from small_set import jpeg, provenance, small_set

from mteb_vehicle_search.eval_set.schema import CorpusImage

MINERS = {
    name: {"library": "pixels", "model": name, "revision": "", "family": family}
    for name, family in (("colours", ""), ("layout", "tiny"))
}
FOUND_BY = (["colours"], ["layout"], ["colours", "layout"])


def pool_of(near, far, **changed):
    """Return what a manifest says of a pool."""
    counts = {"images": near + far, "near": near, "far": far, "near_each": 2}
    return {**counts, "seed": "1", "miners": MINERS, **changed}


def images_of(captioned=6, near=9, drawn=25, far=100):
    """Return the images: captioned ones, near ones found by one miner, the other or both, and some of the far ones."""
    found = []
    for number in range(captioned):
        arm = {"arm": "captioned", "mined_by": [], "inclusion_probability": 1.0}
        found.append(CorpusImage(f"flickr30k/{number:04d}", jpeg(number), {**provenance(number, True), **arm}))
    # One near image, then two others, as long as there are.
    places = [("mined", 3 * n) for n in range(near)] + [("random", n // 2 * 3 + 1) for n in range(drawn)]
    order = sorted(places, key=lambda one: one[1])
    for number, (arm, at) in enumerate(order):
        by, share = (FOUND_BY[at // 3 % 3], 1.0) if arm == "mined" else ([], drawn / far)
        facts = {**provenance(number + 500, False), "arm": arm, "mined_by": by, "inclusion_probability": share}
        found.append(CorpusImage(f"imagenet/train/n{number:04d}", jpeg(number + 500), facts))
    return found


def pool_set(folder, captioned=6, near=9, drawn=25, far=100, images=None, **changed):
    """Write a sample of a pool: all `near` images and `drawn` of the `far` ones, mixed; `changed` of its pool."""
    images = images_of(captioned, near, drawn, far) if images is None else images
    return small_set(folder, captioned=captioned, images=images, pool=pool_of(near, far, **changed))
