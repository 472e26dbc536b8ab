"""One build under way: its options and markers, and what it has read and refused so far."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from data_prep.options import BuildOptions
from data_prep.preset import Preset
from data_prep.progress import Reporter
from data_prep.stages import Stages
from mteb_vehicle_search.errors import BuildError
from mteb_vehicle_search.eval_set import Rejected

REJECT_LIMIT = 0.005


@dataclass
class Job:
    """What all stages of one build share.

    Attributes:
        options: What to build, from where, and how.
        reporter: Shows messages and progress.
        stages: The markers of finished stages.
        described: What the captioned source said of itself at the start; it may say something else after it fell back
            to another form.
        inputs: How many images were read, by stage.
        rejected: Those that were refused.
    """

    options: BuildOptions
    reporter: Reporter
    stages: Stages
    described: dict[str, Any]
    inputs: Counter[str] = field(default_factory=Counter)
    rejected: list[Rejected] = field(default_factory=list)

    @property
    def preset(self) -> Preset:
        """What the evaluation set is made of."""
        return self.options.preset

    def check_rejects(self) -> None:
        """Stop if too many inputs were refused.

        Raises:
            BuildError: More than 0.5 %, and `allow_rejects` is not set.
        """
        count, total = len(set(self.rejected)), sum(self.inputs.values())
        if self.options.allow_rejects or count <= REJECT_LIMIT * total:
            return
        first = "\n".join(f"  {item.id} ({item.stage}): {item.reason}" for item in sorted(self.rejected)[:5])
        raise BuildError(
            f"{count} of {total} inputs were refused, more than {REJECT_LIMIT:.1%}; the first:\n{first}",
            "Something is wrong with a source. Mend it and run the command again, or go on with --allow-rejects.",
        )
