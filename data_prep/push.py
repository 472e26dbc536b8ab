"""Finished sets sent to the hub, private unless the user insists."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from data_prep import hub
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set import EvalSet
from mteb_vehicle_search.eval_set.verify import verify

UNTOLD = "the set does not say; build it again with this version to be told"


def terms_warning(eval_set: EvalSet, public: bool) -> str:
    """Return what the user should know before a set's images leave the computer; "" if nothing."""
    sources = eval_set.manifest.get("sources") or {"": {"terms": UNTOLD}}
    terms = [source["terms"] for source in sources.values() if source.get("terms")]
    if not terms:
        return ""
    advice = "The repository will be private. Share it only with people who accepted the same terms."
    if public:
        advice = "--public would publish them to everybody. Make sure that you are allowed to."
    return "\n".join(["The images come under terms that go with them:", *(f"  - {text}" for text in terms), advice])


def push(folder: Path, repository: str, public: bool = False) -> str:
    """Upload a verified evaluation set; return its address.

    Raises:
        BuildError: The set does not verify.
        SourceError: There is no login, or the hub refuses.
    """
    hub.require_login(repository)  # Before a minute of verification.
    checked = verify(folder)
    if checked.violations:
        raise BuildError(
            f"{folder} does not verify, so it is not pushed.", f"See 'vehicle-search-data verify {folder}'."
        )
    return hub.upload_folder(folder, repository, private=not public)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `vehicle-search-data push`."""
    parser.add_argument("folder", type=Path)
    parser.add_argument("repository", metavar="REPO", help="name on the hub, such as my-lab/vehicle-image-search")
    parser.add_argument("--public", action="store_true", help="visible to everybody: read the warning first")


def main(args: argparse.Namespace) -> int:
    """Warn of the sources' terms, upload, and say where it is; return the exit status."""
    if warning := terms_warning(EvalSet.open(args.folder), args.public):
        sys.stderr.write(f"{warning}\n")
    sys.stdout.write(f"Pushed to {push(args.folder, args.repository, args.public)}\n")
    return 0
