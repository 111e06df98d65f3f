"""Names of the files in a run's folder, and which of them are needed, read, hashed (SHA-256) and pushed."""

from nt_failures.models.load import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from nt_failures.objectives.auxiliary_modules import MODULES_FILE

RUN_FILE = "nt_failures.json"
"""Saved beside the weights: which objective and task the model was trained with."""
ARGUMENTS_FILE, RESULTS_FILE, RECIPE_FILE, CARD = "arguments.json", "results.json", "recipe.yaml", "README.md"
FIGURES = ("forced_vs_free.png", "graph.png", "learning.png")
CONFIG, WEIGHTS, INDEX = "config.json", "model.safetensors", "model.safetensors.index.json"
TOKENIZER = ("tokenizer.json", "tokenizer_config.json")

NEEDED = (*TOKENIZER, RUN_FILE)
"""Beside the weights: without one of them nobody can load the run."""
EXTRA = ("added_tokens.json", "special_tokens_map.json", "chat_template.jinja")
"""Of a tokenizer, read where they are there, though few of today's tokenizers are saved with them."""
READ = (CONFIG, ADAPTER_CONFIG, "generation_config.json", *TOKENIZER, *EXTRA, INDEX, MODULES_FILE)
"""Files beside the weights that are read when a model is loaded."""
CHECKED = (*READ, *NEEDED, RESULTS_FILE, ARGUMENTS_FILE)
"""Files beside the weights of a run that must be readable where they are there."""
SUMMED = (*READ, "*.safetensors")
"""What decides which model is loaded, and what it answers."""

PUSHED = ["*.safetensors", "*.json", "*.jinja", "*.txt", "*.model", "*.md", "*.yaml", "*.png"]
"""What of a run's folder goes to the Hub: weights, tokenizer, descriptions, results, card, figures. No pickles."""
NOT_PUSHED = ["trainer_state.json", "manifest.json", "_*"]
"""But these, of what `PUSHED` fits."""
MODEL = ("model*.safetensors", INDEX, CONFIG, ADAPTER_CONFIG, ADAPTER_WEIGHTS, MODULES_FILE, "generation_config.json")
"""What decides which model a folder is: of an earlier one nothing of it may stay beside other weights."""
REPORTS = (RESULTS_FILE, RECIPE_FILE, ARGUMENTS_FILE)
"""What a run of the command line says of its model."""
REPLACED = [*MODEL, *TOKENIZER, *EXTRA, *REPORTS, *FIGURES, CARD]
"""What goes from a repository where a push has no such file: all that an earlier push said and made of a model.

Of cards only those that were made here."""
