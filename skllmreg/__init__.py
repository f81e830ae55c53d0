"""What large language models know, put into small scikit-learn models."""

import sys
from importlib import import_module

__version__ = "0.1.0"

# A public name is imported when it is first used: `import skllmreg` stays fast and loads neither
# torch nor openai. A new public name is one line here.
_HOME = {
    "AttributionDisplay": "skllmreg.attribution",
    "Attributions": "skllmreg.attribution",
    "CascadeDisplay": "skllmreg.selection",
    "ChatModel": "skllmreg.llm",
    "GOLDAugmenter": "skllmreg.augmentation",
    "GOLDSeq2SeqAugmenter": "skllmreg.augmentation",
    "GenerationDisplay": "skllmreg.augmentation",
    "GenerationRequest": "skllmreg.augmentation",
    "LLKDSelector": "skllmreg.selection",
    "LLMAttributionBoostingClassifier": "skllmreg.attribution",
    "LLMAttributionBoostingRegressor": "skllmreg.attribution",
    "LLMAttributionRegularizedClassifier": "skllmreg.attribution",
    "LLMAttributionRegularizedRegressor": "skllmreg.attribution",
    "LLMCascadeClassifier": "skllmreg.selection",
    "LLMFeatureSelector": "skllmreg.attribution",
    "LLMShapeTransformer": "skllmreg.attribution",
    "LLMTeacherClassifier": "skllmreg.selection",
    "SelectionDisplay": "skllmreg.selection",
    "UnlabeledSplit": "skllmreg.selection",
    "describe_features": "skllmreg.attribution",
    "elicit_attributions": "skllmreg.attribution",
}

__all__ = [*_HOME]


def __getattr__(name):
    if name not in _HOME:
        # With the module, Python can say which name is like it.
        message = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(message, name=name, obj=sys.modules[__name__])
    value = globals()[name] = getattr(import_module(_HOME[name]), name)
    return value


def __dir__():
    return sorted({*globals(), *_HOME})
