"""Models drawn to an LLM's scores of their features (LAAT, arXiv:2502.20268)."""

from skllmreg.attribution._attributions import Attributions
from skllmreg.attribution._boosting_classifier import LLMAttributionBoostingClassifier
from skllmreg.attribution._boosting_regressor import LLMAttributionBoostingRegressor
from skllmreg.attribution._classifier import LLMAttributionRegularizedClassifier
from skllmreg.attribution._display import AttributionDisplay
from skllmreg.attribution._elicit import describe_features, elicit_attributions
from skllmreg.attribution._feature_selector import LLMFeatureSelector
from skllmreg.attribution._regressor import LLMAttributionRegularizedRegressor
from skllmreg.attribution._shape_transformer import LLMShapeTransformer

__all__ = [
    "AttributionDisplay",
    "Attributions",
    "LLMAttributionBoostingClassifier",
    "LLMAttributionBoostingRegressor",
    "LLMAttributionRegularizedClassifier",
    "LLMAttributionRegularizedRegressor",
    "LLMFeatureSelector",
    "LLMShapeTransformer",
    "describe_features",
    "elicit_attributions",
]
