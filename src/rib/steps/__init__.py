"""Steps: the kinds of work. Each kind describes, prices and runs itself."""

from rib.data.parts import DataPart
from rib.steps.adapt import Adapt
from rib.steps.base import Step, distinct
from rib.steps.compare import Compare
from rib.steps.embed import Embed
from rib.steps.fit import Fit
from rib.steps.how import How
from rib.steps.new_head import NewHead
from rib.steps.predict import Predict, predictions_of
from rib.steps.pretrain import Load, Pretrain, Reference
from rib.steps.start import Start
from rib.steps.workshop import Workshop
from rib.steps.world import World

KINDS: tuple[type[Step], ...] = (Pretrain, NewHead, Embed, Fit, Predict, Compare)
"""Every kind of step, in the order in which they build on one another."""

__all__ = [
    "KINDS",
    "Adapt",
    "Compare",
    "DataPart",
    "Embed",
    "Fit",
    "How",
    "Load",
    "NewHead",
    "Predict",
    "Pretrain",
    "Reference",
    "Start",
    "Step",
    "Workshop",
    "World",
    "distinct",
    "predictions_of",
]
