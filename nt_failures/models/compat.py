"""Private names of transformers and peft that this folder needs, each with the public API that would replace it."""

from transformers import PreTrainedModel


def is_recurrent(model: PreTrainedModel) -> bool:
    """Whether the model carries a state from token to token; no public attribute says so."""
    return model._is_stateful


def attention_kernel(model: PreTrainedModel) -> str:
    """The attention implementation chosen for the model; public is only the argument that asks for one."""
    return model.config._attn_implementation


def merge_adapter_layers(model: PreTrainedModel) -> None:
    """Add an adapter into the weights, in place, and take its layers out of the model.

    The public `PeftModel.merge_and_unload` needs peft's wrapper, which a model with `add_adapter` does not have, and
    transformers has no public way to say that no adapter is left.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper

    for name, module in list(model.named_modules()):
        if isinstance(module, AuxiliaryTrainingWrapper):
            model.set_submodule(name, module.unload_and_optionally_merge_module(True, True, None))
        elif isinstance(module, BaseTunerLayer) and not name.endswith(".token_adapter"):  # inside such a wrapper
            module.merge(safe_merge=True)
            model.set_submodule(name, module.get_base_layer())
    del model.peft_config
    model._hf_peft_config_loaded = False
