"""Every table by the name that `ducseg ablate` takes. A further one is one more entry."""

from ducseg.experiments.ablations.beside import BESIDE
from ducseg.experiments.ablations.paper import PAPER_TABLES
from ducseg.experiments.ablations.questions import QUESTIONS
from ducseg.experiments.ablations.rows import Table

__all__ = ["TABLES"]

TABLES: dict[str, Table] = {table.name: table for table in (*PAPER_TABLES, *QUESTIONS, BESIDE)}
