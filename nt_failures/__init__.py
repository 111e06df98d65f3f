"""Next-token failures: lookahead tasks, multi-token objectives and a diagnosis for Hugging Face causal LMs."""
