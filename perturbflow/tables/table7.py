"""Table 7 of the paper: Table 5 for the networks with a changed last layer."""

from __future__ import annotations

import pandas as pd

from perturbflow.tables.table import Table
from perturbflow.tables.table5 import accuracy_markdown, table5
from perturbflow.vocabulary import Labels


def table7_markdown(table: pd.DataFrame, labels: Labels) -> str:
    """Table 7 as Markdown, like Table 5."""
    return accuracy_markdown("**Table 7.** Top-1 accuracy (%) of DenseNet-201 with a changed last layer", table, labels)


TABLE = Table(table5, table7_markdown)
