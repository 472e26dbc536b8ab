"""The best k images of each query, as numbers that are larger for the better image.

Such a *key* holds a score and, below it, the row of its image, an earlier row being larger. So no two images are equal,
and the best k of a corpus are the best k of those of its parts, whatever the parts and the order they are joined in.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

# A row has 31 bits of a key.
MOST_ROWS = 2**31 - 1
MAGNITUDE = 2**31 - 1


def keys_of(scores: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
    """Return the keys of scores (float32) with rows (int64, -1: none; the same shape), int64."""
    # As 0 and -0 are the same score, they must have the same bits.
    ordered = _flipped((scores + 0.0).view(torch.int32))
    return (ordered.long() << 32) | (~rows & 0xFFFFFFFF)


def scores_of(keys: torch.Tensor) -> torch.Tensor:
    """Return the scores that keys hold, float32."""
    return _flipped((keys >> 32).to(torch.int32)).view(torch.float32)


def rows_of(keys: torch.Tensor) -> torch.Tensor:
    """Return the rows that keys hold, int64."""
    return ~keys.to(torch.int32).long()


def _flipped(bits: torch.Tensor) -> torch.Tensor:
    """Return integers in the order of the floats of these bits, and back: negative floats grow with their magnitude."""
    return bits ^ ((bits >> 31) & MAGNITUDE)


class Best(NamedTuple):
    """The keys of the best images of each query so far, int64 [q, k], falling; a score of -inf without row: none."""

    keys: torch.Tensor

    @classmethod
    def of(cls, queries: int, k: int, device: torch.device) -> Best:
        """Return it for no image yet."""
        none = torch.full((queries, k), -1, dtype=torch.int64, device=device)
        return cls(keys_of(torch.full((queries, k), -torch.inf, device=device), none))

    def take(self, block: slice, scores: torch.Tensor, rows: torch.Tensor) -> None:
        """Take in a block of queries' scores, float32 [block, n], of images of these rows, int64 [n], all new."""
        # Once the best k are known, few images of a block are better, and choosing few is much faster than choosing k.
        better = int(count(scores > scores_of(self.keys[block, -1:])).max())
        if not better:
            return
        k = self.keys.shape[1]
        both = torch.cat([self.keys[block], _best_keys(scores, min(k, better), rows)], dim=1)
        self.keys[block] = torch.topk(both, k, dim=1).values


def _best_keys(scores: torch.Tensor, k: int, rows: torch.Tensor) -> torch.Tensor:
    """Return the keys of the best k images, int64 [queries, k], from their scores, float32 [queries, n]."""
    n = scores.shape[1]
    # Scores are chosen from much faster than keys, but of equals any; one more shows where that makes a difference.
    value, index = torch.topk(scores, min(k + 1, n), dim=1)
    keys = keys_of(value[:, :k], rows[index[:, :k]])
    cut = (value[:, k - 1] == value[:, -1]).nonzero().squeeze(1)
    if len(cut):
        keys[cut] = torch.topk(keys_of(scores[cut], rows), k, dim=1).values
    return keys


def count(mask: torch.Tensor) -> torch.Tensor:
    """Return the number of true values by row, int32; as a sum of bytes much faster than a count of booleans."""
    return mask.view(torch.uint8).sum(dim=1, dtype=torch.int32)
