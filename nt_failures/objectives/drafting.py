"""Layers that transformers drafts with in `generate(use_mtp=True)`: new ones, a checkpoint's, how often they are right.

They stand in the model as `mtp.layers.0`, `mtp.layers.1`, ... and so in its checkpoint, with their number as
`num_mtp_layers` in its config. That is where transformers 5.23 finds them.
"""

import logging
import re
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from transformers import AutoConfig, PreTrainedModel
from transformers.utils import ModelOutput

from nt_failures.objectives import auxiliary_modules, last_block


def attach_layers(model: PreTrainedModel, depths: int) -> None:
    """Put new layers into the model and note them in its config; ValueError for a model that is not built as Llama."""
    blocks, norm = last_block.parts(model)
    if not (hasattr(model.config, "rms_norm_eps") and hasattr(model.base_model, "rotary_emb")):
        others = "take one that is (Llama, Mistral, Qwen3, ...), or form='paper'"
        raise ValueError(
            f"form='transformers' needs a model built as Llama, and {type(model).__name__} is not; {others}."
        )
    try:
        from transformers.modeling_layers import MtpLayer
    except ImportError as error:
        raise ValueError("this transformers has no MtpLayer; install 5.23 or later, or take form='paper'.") from error
    if depths > len(blocks):  # it would take the layer mtp.layers.N of N blocks for model.layers.N, the first one
        raise ValueError(f"depths={depths} is more than the {len(blocks)} blocks of the model; give at most as many.")
    config = model.config
    config.num_mtp_layers = depths
    for kinds in ("layer_types", "mlp_layer_types"):  # each of the kind of the last block, whose mask it is given
        if getattr(config, kinds, None) is not None:
            setattr(config, f"mtp_{kinds}", getattr(config, kinds)[-1:] * depths)
    layers = [MtpLayer(config.get_mtp_config(), type(blocks[-1]), type(norm), k) for k in range(depths)]
    auxiliary_modules.attach(model, under=auxiliary_modules.DRAFT_NAME, layers=torch.nn.ModuleList(layers))
    # By these patterns transformers finds the layers in a checkpoint; Llama's class has none.
    model._keys_to_ignore_on_load_unexpected.add(rf"^{auxiliary_modules.DRAFT_NAME}\.")


def not_reported(record: logging.LogRecord) -> bool:
    """Whether a record is other than transformers' report that layers to draft with are no part of a model itself.

    `load_layers` reads them later: nothing is lost that a user could bring back.
    """
    found = re.findall(r"^(\S+) +\| (\w+)", record.getMessage(), flags=re.MULTILINE)
    keys = [key for key, status in found if status != "Status"]
    return not keys or not all(key.startswith(f"{auxiliary_modules.DRAFT_NAME}.") for key in keys)


def load_layers(model: PreTrainedModel) -> None:
    """Give attached layers the weights of the checkpoint that the model was loaded from.

    Raises:
        ValueError: a model without attached layers, or a checkpoint with another number of them.

    Example:
        >>> import nt_failures as ntf
        >>> tokenizer = ntf.word_level_tokenizer(ntf.PathStar(degree=2, path_length=3, num_nodes=10))
        >>> load_layers(ntf.load_model("llama-1x16", tokenizer, max_length=32))
        Traceback (most recent call last):
        ValueError: the model has no layers attached; attach_layers, or a trainer, puts some into it first.
    """
    from transformers.modeling_layers import MtpModel

    if not hasattr(model, auxiliary_modules.DRAFT_NAME):
        raise ValueError("the model has no layers attached; attach_layers, or a trainer, puts some into it first.")
    attached, path = auxiliary_modules.modules_of(model)["layers"], model.config.name_or_path
    config = AutoConfig.from_pretrained(path, trust_remote_code=False).get_text_config() if path else None
    saved = getattr(config, "num_mtp_layers", None) or 0
    if saved != len(attached):
        other = f"the model has {len(attached)} layers attached, its checkpoint {path!r} has {saved}"
        raise ValueError(f"{other}; attach as many as the checkpoint has.")
    try:
        layers = MtpModel.from_pretrained(model).layers
    except RuntimeError as error:  # transformers lists each weight
        raise ValueError(
            f"{path}: config.json promises {saved} layers to draft with, and weights are missing."
        ) from error
    attached.load_state_dict(layers.state_dict())


def acceptance_rate(model: PreTrainedModel, prompts: Iterable[Sequence[int]], new_tokens: int) -> float:
    """Share of the drafted tokens that the model itself writes, where it goes on from each prompt greedily.

    A draft behind a wrong one counts as wrong. Any model does for which `generate(use_mtp=True)` works; the drafts are
    those of the checkpoint it was loaded from.

    Args:
        prompts: rows of token ids, such as the column `prefix_ids` of `tokenize`.
        new_tokens: for each of them, 2 or more.

    Raises:
        ValueError: too few new tokens, or nothing was drafted.

    Example:
        >>> import tempfile
        >>> from transformers import AutoModelForCausalLM
        >>> import nt_failures as ntf
        >>> tokenizer = ntf.word_level_tokenizer(ntf.PathStar(degree=2, path_length=3, num_nodes=10))
        >>> sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}
        >>> sizes |= {"num_key_value_heads": 2, "vocab_size": len(tokenizer), "mlp_layer_types": ["dense"]}
        >>> config = AutoConfig.for_model("exaone_moe", **sizes, num_mtp_layers=1, eos_token_id=None)
        >>> model = AutoModelForCausalLM.from_config(config)
        >>> ntf.SequentialHeads.from_tokenizer(tokenizer, depths=1, form="transformers").attach(model)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     model.save_pretrained(folder)
        ...     stock = AutoModelForCausalLM.from_pretrained(folder)
        ...     0 <= acceptance_rate(stock, prompts=[[3, 10, 4, 11]], new_tokens=8) <= 1
        True
    """
    if new_tokens < 2:
        raise ValueError(f"new_tokens={new_tokens} must be at least 2: the first is never drafted.")
    kept, drafted = 0, 0

    def compare(_: torch.nn.Module, args: tuple, kwargs: dict[str, Any], output: ModelOutput) -> None:
        nonlocal kept, drafted
        cache = kwargs.get("past_key_values", kwargs.get("cache"))  # transformers before and from 5.24 on
        if cache.get_seq_length() == kwargs["input_ids"].shape[1]:
            return  # the prompt's pass, before which nothing was drafted
        drafts = kwargs["input_ids"][0, 1:]  # behind the last token that is sure
        right = drafts == output.logits[0, :-1].argmax(dim=-1)
        kept += int(right.cumprod(dim=0).sum())
        drafted += len(drafts)

    hook = model.register_forward_hook(compare, with_kwargs=True)
    try:
        for prompt in prompts:
            ids = torch.tensor([prompt], device=model.device)
            settings = {"max_new_tokens": new_tokens, "do_sample": False, "use_mtp": True}
            model.generate(ids, attention_mask=torch.ones_like(ids), **settings)
    finally:
        hook.remove()
    if not drafted:
        raise ValueError("nothing was drafted: there are no prompts, or each answer ends with its first token.")
    return kept / drafted
