"""RI, mRI and accuracies from predictions.parquet alone. Knows nothing of RIB: `python oracle.py predictions.parquet`.

A data set of several cells (corruptions) counts every cell the same. RI of a set tuned on is the mean, over the other
downstream sets, of the accuracy after minus before, in percentage points; over several seeds, the mean of theirs. mRI
is the mean of RI over the sets tuned on.
"""

from __future__ import annotations

import json
import sys

import duckdb

QUERY = """
with cells as (
    select model, method, size, seed, tuned_on, tested_on, role, coalesce(cell, '') as cell,
        100.0 * count(*) filter (masked_right) / count(*) as masked,
        100.0 * count(*) filter (unmasked_right) / count(*) as unmasked,
        100.0 * count(*) filter (masked_class = label) / count(*) as again,
    from read_parquet($file) group by all
), scores as (
    select model, method, size, seed, tuned_on, tested_on, role,
        avg(masked) as masked, avg(unmasked) as unmasked, avg(again) as again
    from cells group by all
), changes as (
    select after.model, after.method, after.size, after.seed, after.tuned_on,
        avg(after.masked - before.masked) as masked, avg(after.unmasked - before.unmasked) as unmasked
    from scores as after join scores as before using (model, tested_on)
    where before.tuned_on is null and after.tuned_on is not null and after.role = 'downstream'
    group by all
), ri as (
    select model, method, size, tuned_on, avg(masked) as masked, avg(unmasked) as unmasked from changes group by all
)
"""


def table(file: str, query: str) -> list[dict[str, object]]:
    """Rows of a query."""
    found = duckdb.execute(QUERY + query, {"file": file})
    names = [column[0] for column in found.description]
    return [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def main() -> None:
    """Print everything as JSON."""
    file = sys.argv[1]
    mri = "select model, method, size, avg(masked) as mri, avg(unmasked) as mri_unmasked from ri group by all"
    print(json.dumps({name: table(file, query) for name, query in (
        ("scores", "select * from scores"), ("ri", "select * from ri"), ("summaries", mri)
    )}))  # fmt: skip
    assert not {name for name in sys.modules if name.partition(".")[0] in ("rib", "torch")}


if __name__ == "__main__":
    main()
