"""Passes: a stream of rows as a DataLoader trains on it, pass behind pass, without end."""

import copy
import itertools
from collections.abc import Iterable, Iterator
from typing import Any

from torch.utils.data import IterableDataset, get_worker_info

PASS = "__pass__"
"""Column of each row: how often the stream was read before; a row that comes again is drawn for anew."""


class Passes(IterableDataset):
    """Read a stream again from its start whenever it ends, so that every batch is full and none ends with a pass.

    The Trainer has no number for a pass of a stream: a second one would count as the first, and a training that resumes
    within it would skip as many batches as the first had, and start over. A stream with `set_epoch` is shuffled anew.
    One without a row ends.

    Several workers of a DataLoader read shards of their own (most often of 4,096 rows, the last one fewer). One that is
    through with its few begins the next pass before the others, so that some rows come again before others have come:
    of 4,100 rows and two workers half are not seen within the first 4,100, of 200,000 and four workers 1 to 2 %.

    Args:
        stream: rows, such as a `datasets.IterableDataset`; the same in every pass, but for their order.
        numbered: add the column `PASS`; rows must be mappings.

    Example:
        >>> import itertools
        >>> from nt_failures.data.passes import Passes
        >>> rows = Passes([{"prefix_ids": [1]}, {"prefix_ids": [2]}])
        >>> [(row["prefix_ids"], row["__pass__"]) for row in itertools.islice(rows, 3)]
        [([1], 0), ([2], 0), ([1], 1)]
    """

    def __init__(self, stream: Iterable[Any], numbered: bool = True):
        self.stream = stream
        self.numbered = numbered

    def __iter__(self) -> Iterator[Any]:
        stream, has_epochs = self.stream, hasattr(self.stream, "set_epoch")
        if has_epochs and get_worker_info() is not None:
            # The workers of a loader share the number of a `datasets` stream's epoch, by which shards are dealt out:
            # with a stream of its own, none deals by the number that another one, ahead or behind, has just set.
            stream = copy.deepcopy(stream)
        for number in itertools.count():
            if has_epochs:
                stream.set_epoch(number)
            empty = True
            for row in stream:
                empty = False
                yield {**row, PASS: number} if self.numbered else row
            if empty:
                return
