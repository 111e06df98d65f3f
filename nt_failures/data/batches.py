"""From tokenised rows to padded tensors: prefix | target, all targets starting in the same column."""

from collections.abc import Mapping, Sequence

import torch

from nt_failures.data.token_dataset import TokenRows

IGNORE = -100
"""Label that every Hugging Face loss ignores."""

Example = Mapping[str, Sequence[int]]
"""One row of `tokenize`: `prefix_ids`, `target_ids`, `target_positions`."""


def layout(
    examples: Sequence[Example], pad_token_id: int, reverse: bool = False, end_token_id: int | None = None
) -> dict[str, torch.Tensor]:
    """Pad the examples into prefix (on the left) and target (on the right).

    Two rows, prefixes `1 2 3` and `4 5`, targets `6 7` and `8 9 10`, pad 0:

        prefix_ids        1    2    3      target_ids   6    7 -100
                          0    4    5                   8    9   10
        prefix_mask       1    1    1
                          0    1    1

    Args:
        examples: rows of `tokenize`.
        pad_token_id: fills the prefixes up.
        reverse: write every target from its last token to its first.
        end_token_id: ends a target in either order: these tokens stay behind.

    Returns:
        `prefix_ids`, `prefix_mask` (B, P); `target_ids`, `target_positions` (B, T), filled up with -100.
    """
    if not examples:
        raise ValueError("a batch needs at least one example.")
    rows = TokenRows.from_examples(examples)
    if missing := {"prefix_ids", "target_ids"} - {*rows.columns}:
        raise ValueError(
            f"examples have no {sorted(missing)} but {sorted(examples[0])}; pass the dataset through "
            "nt_failures.tokenize(dataset, tokenizer), and set remove_unused_columns=False in a stock Trainer."
        )
    prefix, prefix_mask = _padded(rows, "prefix_ids", pad_token_id, left=True)
    target, target_mask = _padded(rows, "target_ids", IGNORE)
    if "target_positions" in rows.columns:
        positions, positions_mask = _padded(rows, "target_positions", IGNORE)
        if not torch.equal(positions_mask, target_mask):
            raise ValueError("target_positions and target_ids differ in length; an example needs one position per id.")
    else:
        positions = torch.where(target_mask.bool(), torch.arange(1, target.shape[1] + 1), IGNORE)
    for name, mask in (("prefix_ids", prefix_mask), ("target_ids", target_mask)):
        if not mask.any(dim=1).all():
            raise ValueError(f"an example has no {name}; every row needs a prompt and a completion.")
    if reverse:
        _check_ends(target, end_token_id)
        target, positions = reverse_rows(target, target, end_token_id), reverse_rows(positions, target, end_token_id)
    return {"prefix_ids": prefix, "prefix_mask": prefix_mask, "target_ids": target, "target_positions": positions}


def join(parts: Mapping[str, torch.Tensor], shown_BT: torch.Tensor, labels_BT: torch.Tensor, pad_token_id: int) -> dict:
    """The batch of a causal LM from prefixes, the target tokens shown as input, and the labels.

    Args:
        parts: from `layout`.
        shown_BT: what stands in the target columns of the input; -100 where there is nothing.
        labels_BT: labels of the target columns.
        pad_token_id: fills empty columns up.

    Returns:
        `input_ids`, `attention_mask`, `labels` (B, P + T), and `position_ids` when a prefix is padded.
    """
    empty_BT = parts["target_ids"].eq(IGNORE)
    mask = torch.cat([parts["prefix_mask"], (~empty_BT).long()], dim=1)
    batch = {
        "input_ids": torch.cat([parts["prefix_ids"], shown_BT.masked_fill(empty_BT, pad_token_id)], dim=1),
        "attention_mask": mask,
        "labels": torch.cat([torch.full_like(parts["prefix_ids"], IGNORE), labels_BT], dim=1),
    }
    if not parts["prefix_mask"].all():
        batch["position_ids"] = position_ids(mask)
    return batch


def predicting(batch: Mapping[str, torch.Tensor]) -> tuple[dict[str, torch.Tensor], int]:
    """What a causal LM reads to predict a batch's labels, all columns but the last; and the first column of labels.

    `inputs_embeds` of a batch are read in place of its `input_ids`.
    """
    names = ("inputs_embeds" if "inputs_embeds" in batch else "input_ids", "attention_mask", "position_ids")
    return {name: batch[name][:, :-1] for name in names if name in batch}, first_label(batch)


def first_label(batch: Mapping[str, torch.Tensor]) -> int:
    """The first column in which any row has a label; 1 where none has, for column 0 has no token before it."""
    labelled = batch["labels"].ne(IGNORE).any(dim=0)
    return 1 + int(labelled[1:].int().argmax())


def position_ids(mask: torch.Tensor) -> torch.Tensor:
    """Positions from 0 at each row's first real token, (B, S) like the mask; padding repeats a neighbour's."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def _check_ends(target_BT: torch.Tensor, end_token_id: int | None) -> None:
    """ValueError for a target that goes on behind an end token: it would be reversed up to there alone."""
    ends_BT = target_BT.eq(-1 if end_token_id is None else end_token_id)
    if (ends_BT.cumsum(dim=1).gt(0) & ~ends_BT & target_BT.ne(IGNORE)).any():
        raise ValueError(
            f"a target goes on behind the token {end_token_id}, which ends answers, so it has no reversed order; where "
            "the token ends nothing, build the objective with end_token_id=None."
        )


def reverse_rows(ids_BT: torch.Tensor, target_BT: torch.Tensor, end_token_id: int | None = None) -> torch.Tensor:
    """Reverse each row within the length of its target, (B, T) ids; -100 stays behind, and so does the end token."""
    inside_BT = target_BT.ne(IGNORE)
    if end_token_id is not None:
        inside_BT = inside_BT & target_BT.eq(end_token_id).cumsum(dim=1).eq(0)
    lengths_B1 = inside_BT.sum(dim=1, keepdim=True)
    columns_T = torch.arange(ids_BT.shape[1], device=ids_BT.device)
    source_BT = torch.where(columns_T < lengths_B1, lengths_B1 - 1 - columns_T, columns_T)
    return ids_BT.gather(1, source_BT)


def _padded(rows: TokenRows, column: str, fill: int, left: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    ids, mask = rows.padded(column, fill, left)
    return torch.from_numpy(ids), torch.from_numpy(mask)
