"""Orders: models whose outputs seem to have another order than the reference classes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from rib.analysis.orders import Order, better_order
from rib.errors import DamagedError
from rib.methods.pretrained import Pretrained
from rib.plan import Plan, Run
from rib.store.record import Record, unpack_bits
from rib.store.store import Store

MOST_NAMED = 3
"""Maximum number of classes that a message names as examples."""


def order_faults(plan: Plan, records: Mapping[str, Record], store: Store) -> Iterator[tuple[Run, str]]:
    """The runs whose answers fit the reference set only after a permutation of its classes, each with a sentence.

    RIB checks pretrained models, and tuned models of others whose accuracy on the reference set is at chance. What RIB
    tunes itself keeps the order of its pretrained model; if it ends at chance, any class may stand for another.
    """
    reference = plan.suite.reference
    classes = plan.world[reference].classes
    for run in plan.runs:
        found = _order(run, reference, len(classes), records, store)
        if found is not None:
            yield run, _sentence(found, classes, plan.suite.set_names.short(reference))


def _order(run: Run, reference: str, classes: int, records: Mapping[str, Record], store: Store) -> Order | None:
    predict = run.scores.get(reference)
    record = records.get(predict.key) if predict else None
    if predict is None or record is None or not isinstance(run.fit.method, Pretrained):
        return None
    if run.tuned_on is not None and _share(record) > 2 / classes:
        return None  # above chance, so the order is right: tuning does not change the order of the outputs
    try:
        table = store.predictions(predict.key, ["label", "masked_class"])
    except (DamagedError, OSError):
        return None  # damage is reported elsewhere
    # pyarrow's to_numpy would import pandas, if it is installed, which takes half a second
    labels, answers = (np.from_dlpack(table[name].combine_chunks()).astype(np.int64) for name in table.column_names)
    return better_order(labels, answers, classes)


def _share(record: Record) -> float:
    return float(unpack_bits(record.values["masked_right"], record.values["examples"]).mean())


def called(plan: Plan, run: Run) -> str:
    """A run's name in a message: its model, and if it was tuned, the method and the tuned set."""
    model = plan.suite.model_names.short(run.model)
    return model if run.tuned_on is None else f"{model} {run.method} on {plan.suite.set_names.short(run.tuned_on)}"


def _sentence(found: Order, classes: Sequence[str], reference: str) -> str:
    moved = [place for place, meant in enumerate(found.means.tolist()) if place != meant]
    examples = ", ".join(f"{classes[place]} for {classes[found.means[place]]}" for place in moved[:MOST_NAMED])
    more = ", …" if len(moved) > MOST_NAMED else ""
    return (
        f"probably another order of classes: right on {found.accuracy:z.1f} % of {reference}, and on "
        f"{found.better:z.1f} % if its answers are renamed one for one (it says {examples}{more}); "
        "check the order of its outputs against the classes of the reference set"
    )
