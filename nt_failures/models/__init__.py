"""Stock causal LMs by size or checkpoint, and what they can do: attention masks, LoRA, the Mamba scan."""
