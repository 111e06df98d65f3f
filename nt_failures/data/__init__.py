"""From a task to batches: the `datasets` builder, splits, the tokenizer, token rows and padded tensors."""
