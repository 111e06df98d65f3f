"""From a task to batches: the `datasets` builder, the tokenizer, token rows and padded tensors."""
