"""Send an evaluation set to the hub: private unless the user insists."""

from __future__ import annotations

from pathlib import Path

from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.verify import verify

TERMS = {
    "flickr30k": "Flickr30k: non-commercial research and education only; the photos belong to their owners.",
    "imagenet": "ImageNet: non-commercial research and education only; copies must not be published.",
}


def terms_warning(evaluation: EvalSet, public: bool) -> str:
    """Return what the user should know before images of these sources leave the computer; "" if nothing."""
    terms = [text for source, text in TERMS.items() if source in evaluation.manifest["counts"]["sources"]]
    if not terms:
        return ""
    lines = ["The images come under terms that go with them:", *(f"  - {text}" for text in terms)]
    if public:
        lines.append("--public would publish them to everybody. Make sure that you are allowed to.")
    else:
        lines.append("The repository will be private. Share it only with people who accepted the same terms.")
    return "\n".join(lines)


def push(folder: Path, repository: str, public: bool = False) -> str:
    """Upload a verified evaluation set; return its address.

    Raises:
        BuildError: The set does not verify.
    """
    from data_prep.hub_models import upload_folder

    checked = verify(folder)
    if checked.violations:
        raise BuildError(
            f"{folder} does not verify, so it is not pushed.", f"See 'vehicle-search-data verify {folder}'."
        )
    return upload_folder(folder, repository, private=not public)
